//! Which devices there are, what each of them can do, and which one to take.
//!
//! Every adapter of every backend is listed, in the order in which the drivers name them, so that a number means the same device
//! from call to call. A device that two backends offer stands there twice.

use std::fmt;

use serde::Serialize;

use super::{door, error::GpuError};

/// All adapters of this machine.
#[derive(Debug)]
pub struct Adapters(Vec<Adapter>);

/// A device that could be opened.
#[derive(Clone, Debug)]
pub struct Adapter {
    facts: Facts,
    wgpu: wgpu::Adapter,
}

/// What is known of a device.
#[derive(Clone, Debug, Serialize)]
pub struct Facts {
    /// Its place in the list, from 0.
    pub number: usize,
    /// As its driver calls it.
    pub name: String,
    /// What it is made of.
    pub kind: Kind,
    /// Driver and version.
    pub driver: String,
    /// The interface that reaches it.
    pub backend: Interface,
    /// What its shaders can do.
    pub features: Features,
    /// How much of everything.
    pub limits: Limits,
    /// Memory that its driver calls local [bytes], all of it, in use or not; `None` where the interface does not tell.
    /// Integrated and software devices give out the machine's, or a part of it.
    pub memory: Option<u64>,
}

/// What a device is made of; the better ones first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A GPU with memory of its own.
    Discrete,
    /// A GPU that shares the memory of the machine.
    Integrated,
    /// A GPU lent to a virtual machine.
    Virtual,
    /// The CPU, behind the interface of a GPU.
    Software,
    /// The driver does not say.
    Other,
}

/// The interface that reaches a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Interface {
    /// Linux, Windows: the one on which arithmetic can be made strict.
    Vulkan,
    /// Apple.
    Metal,
    /// Windows.
    Dx12,
    /// Anything else.
    Other,
}

/// What the engine would use of a device, if it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Features {
    /// Floats of 64 bits in shaders.
    pub f64: bool,
    /// Integers of 64 bits in shaders.
    pub i64: bool,
    /// The device can time what it does, between passes.
    pub timestamps: bool,
    /// And inside a pass.
    pub timestamps_inside_passes: bool,
    /// Modules reach the driver as they are.
    pub passthrough: bool,
    /// Small parameters come with the commands, without a buffer.
    pub immediates: bool,
}

/// How much of everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// The largest buffer [bytes].
    pub buffer: u64,
    /// The largest part of a buffer that a shader sees at once [bytes].
    pub storage_binding: u64,
    /// Memory that the invocations of a workgroup share [bytes].
    pub workgroup_memory: u32,
    /// Invocations of a workgroup.
    pub workgroup_invocations: u32,
    /// Workgroups along each axis of a dispatch.
    pub workgroups: u32,
    /// Immediates of a pass [bytes].
    pub immediates: u32,
}

impl Adapters {
    /// Asks every driver. Takes some milliseconds for each of them.
    #[must_use]
    pub fn find() -> Self {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
            backends: wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12,
            // No validation layers: they slow everything down, and wgpu checks what it is asked anyway.
            flags: wgpu::InstanceFlags::empty(),
            ..wgpu::InstanceDescriptor::new_without_display_handle()
        });
        let found = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
        let adapter = |(number, wgpu)| Adapter { facts: Facts::of(number, &wgpu), wgpu };
        Self(found.into_iter().enumerate().map(adapter).collect())
    }

    /// All of them, in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = &Adapter> {
        self.0.iter()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The one with this number or with this as a part of its name, upper and lower case alike; without a word, the best.
    ///
    /// Of several, a discrete one comes before an integrated, a virtual and a software one; then the first of the list.
    pub fn choose(&self, wanted: Option<&str>) -> Result<&Adapter, GpuError> {
        if self.is_empty() {
            return Err(GpuError::NoAdapter);
        }
        let place = choose(
            &self.0.iter().map(|adapter| (adapter.facts.name.as_str(), adapter.facts.kind)).collect::<Vec<_>>(),
            wanted,
        );
        place.map(|place| &self.0[place]).ok_or_else(|| GpuError::UnknownAdapter {
            wanted: wanted.unwrap_or_default().to_owned(),
            there: self.0.iter().map(|adapter| format!("{}: {}", adapter.facts.number, adapter.facts.name)).collect(),
        })
    }
}

/// The place in the list of what was asked for.
fn choose(list: &[(&str, Kind)], wanted: Option<&str>) -> Option<usize> {
    // A short number is a number and no part of a name, in which one digit or two would be found by chance.
    let number = wanted.map(str::trim).filter(|text| text.len() < 3).and_then(|text| text.parse::<usize>().ok());
    if let Some(number) = number {
        return (number < list.len()).then_some(number);
    }
    let part = wanted.unwrap_or_default().trim().to_lowercase();
    let named = (0..list.len()).filter(|place| list[*place].0.to_lowercase().contains(&part));
    // Of equals, the first: `min_by_key` keeps it.
    named.min_by_key(|place| list[*place].1)
}

impl Adapter {
    /// What is known of it.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The adapter as wgpu knows it.
    pub(super) fn wgpu(&self) -> &wgpu::Adapter {
        &self.wgpu
    }
}

impl Facts {
    fn of(number: usize, adapter: &wgpu::Adapter) -> Self {
        let info = adapter.get_info();
        Self {
            number,
            kind: info.device_type.into(),
            driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
            backend: info.backend.into(),
            features: adapter.features().into(),
            limits: adapter.limits().into(),
            memory: door::memory(adapter),
            name: info.name,
        }
    }

    /// Whether modules with strict arithmetic can be made for it: see [`super::strict`].
    #[must_use]
    pub fn is_strict(&self) -> bool {
        self.backend == Interface::Vulkan && self.features.passthrough
    }
}

impl From<wgpu::DeviceType> for Kind {
    fn from(kind: wgpu::DeviceType) -> Self {
        match kind {
            wgpu::DeviceType::DiscreteGpu => Self::Discrete,
            wgpu::DeviceType::IntegratedGpu => Self::Integrated,
            wgpu::DeviceType::VirtualGpu => Self::Virtual,
            wgpu::DeviceType::Cpu => Self::Software,
            wgpu::DeviceType::Other => Self::Other,
        }
    }
}

impl From<wgpu::Backend> for Interface {
    fn from(backend: wgpu::Backend) -> Self {
        match backend {
            wgpu::Backend::Vulkan => Self::Vulkan,
            wgpu::Backend::Metal => Self::Metal,
            wgpu::Backend::Dx12 => Self::Dx12,
            _ => Self::Other,
        }
    }
}

impl From<wgpu::Features> for Features {
    fn from(features: wgpu::Features) -> Self {
        let has = |feature| features.contains(feature);
        Self {
            f64: has(wgpu::Features::SHADER_F64),
            i64: has(wgpu::Features::SHADER_INT64),
            timestamps: has(wgpu::Features::TIMESTAMP_QUERY),
            timestamps_inside_passes: has(wgpu::Features::TIMESTAMP_QUERY_INSIDE_PASSES),
            passthrough: has(wgpu::Features::PASSTHROUGH_SHADERS),
            immediates: has(wgpu::Features::IMMEDIATES),
        }
    }
}

impl From<wgpu::Limits> for Limits {
    fn from(limits: wgpu::Limits) -> Self {
        Self {
            buffer: limits.max_buffer_size,
            storage_binding: limits.max_storage_buffer_binding_size,
            workgroup_memory: limits.max_compute_workgroup_storage_size,
            workgroup_invocations: limits.max_compute_invocations_per_workgroup,
            workgroups: limits.max_compute_workgroups_per_dimension,
            immediates: limits.max_immediate_size,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Discrete => "discrete",
            Self::Integrated => "integrated",
            Self::Virtual => "virtual",
            Self::Software => "software",
            Self::Other => "other",
        })
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Vulkan => "vulkan",
            Self::Metal => "metal",
            Self::Dx12 => "dx12",
            Self::Other => "other",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: [(&str, Kind); 4] = [
        ("llvmpipe (LLVM 15.0.6, 256 bits)", Kind::Software),
        ("Intel(R) UHD Graphics 770", Kind::Integrated),
        ("NVIDIA GeForce RTX 4090", Kind::Discrete),
        ("NVIDIA GeForce RTX 4090", Kind::Discrete),
    ];

    #[test]
    fn without_a_name_the_best_kind_is_taken_and_of_equals_the_first() {
        assert_eq!(choose(&LIST, None), Some(2));
        assert_eq!(choose(&LIST[..2], None), Some(1));
        assert_eq!(choose(&LIST[..1], None), Some(0));
    }

    #[test]
    fn a_part_of_a_name_or_a_number_is_enough() {
        assert_eq!(choose(&LIST, Some("geforce")), Some(2));
        assert_eq!(choose(&LIST, Some("LLVMpipe")), Some(0));
        assert_eq!(choose(&LIST, Some("3")), Some(3));
        // No number of the list, but a part of a name.
        assert_eq!(choose(&LIST, Some("4090")), Some(2));
        assert_eq!(choose(&LIST, Some("Radeon")), None);
        assert_eq!(choose(&LIST, Some("17")), None);
    }
}
