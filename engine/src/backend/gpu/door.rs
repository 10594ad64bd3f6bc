//! Hands the driver a module as it is, and asks Vulkan how much memory there is: the door to `unsafe` on the way to a GPU.
//!
//! Both are calls that wgpu cannot check. The safe twin of [`module`] is `strict::Strictness::Plain`, which goes through wgpu's own
//! compiler; `tests/gpu.rs` proves that both give the same results where strictness cannot matter. [`memory`] only reads.
#![expect(unsafe_code, reason = "wgpu cannot check a module that bypasses it; every other file of the way is safe")]

use std::borrow::Cow;

use super::strict::Spirv;

/// A module that goes to the driver without wgpu looking at it. The device must have `PASSTHROUGH_SHADERS` and be one of Vulkan.
pub(super) fn module(device: &wgpu::Device, spirv: &Spirv, label: &str) -> wgpu::ShaderModule {
    let descriptor = wgpu::ShaderModuleDescriptorPassthrough {
        label: Some(label),
        spirv: Some(Cow::Borrowed(spirv.words())),
        ..Default::default()
    };
    // SAFETY: a `Spirv` is only made in `strict.rs`, by naga's writer from a module that naga's validator has passed, with
    // decorations added that restrict how it is compiled. Indices into arrays of known length are clamped by naga; those
    // into buffers are bounded by the device, for which wgpu asks for `robustBufferAccess`.
    unsafe { device.create_shader_module_passthrough(descriptor) }
}

/// The memory that is the device's own [bytes], as far as the interface tells.
#[cfg(any(windows, target_os = "linux", target_os = "android", target_os = "freebsd"))]
pub(super) fn memory(adapter: &wgpu::Adapter) -> Option<u64> {
    /// `VK_MEMORY_HEAP_DEVICE_LOCAL_BIT`
    const DEVICE_LOCAL: u32 = 1;

    // SAFETY: the guard keeps the adapter alive while it is read, and nothing of it is destroyed or changed.
    let adapter = unsafe { adapter.as_hal::<wgpu::hal::api::Vulkan>() }?;
    let instance = adapter.shared_instance().raw_instance();
    // SAFETY: the physical device was enumerated from this very instance, which outlives the guard.
    let properties = unsafe { instance.get_physical_device_memory_properties(adapter.raw_physical_device()) };
    let own = properties.memory_heaps_as_slice().iter().filter(|heap| heap.flags.as_raw() & DEVICE_LOCAL != 0);
    Some(own.map(|heap| heap.size).sum())
}

/// The memory that is the device's own [bytes]: Metal does not tell.
#[cfg(not(any(windows, target_os = "linux", target_os = "android", target_os = "freebsd")))]
pub(super) fn memory(_: &wgpu::Adapter) -> Option<u64> {
    None
}
