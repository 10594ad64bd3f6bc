//! Runs a compute shader over buffers: once, from bytes to bytes ([`run`]), or piece by piece for buffers that stay.
//!
//! Modules that bypass wgpu tell it nothing about their bindings, so the layout is always given: bindings are numbered from 0
//! without a gap, all in group 0.

use std::sync::mpsc;

use super::{device::Device, error::GpuError};

/// What a shader does with a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// `var<storage, read>`
    Read,
    /// `var<storage, read_write>`
    ReadWrite,
    /// `var<uniform>`
    Uniform,
}

/// A buffer of one run, and what stands in it.
#[derive(Clone, Copy, Debug)]
pub enum Binding<'a> {
    /// `var<storage, read>`, with these bytes.
    Read(&'a [u8]),
    /// `var<storage, read_write>`, with these bytes; they come back.
    ReadWrite(&'a [u8]),
    /// `var<storage, read_write>`, so many bytes of zero; they come back.
    Write(u64),
    /// `var<uniform>`, with these bytes.
    Uniform(&'a [u8]),
}

impl Binding<'_> {
    fn access(&self) -> Access {
        match self {
            Self::Read(_) => Access::Read,
            Self::ReadWrite(_) | Self::Write(_) => Access::ReadWrite,
            Self::Uniform(_) => Access::Uniform,
        }
    }

    fn buffer(&self, device: &Device) -> Result<wgpu::Buffer, GpuError> {
        match self {
            Self::Read(bytes) | Self::ReadWrite(bytes) => filled_buffer(device, bytes, wgpu::BufferUsages::STORAGE),
            Self::Uniform(bytes) => filled_buffer(device, bytes, wgpu::BufferUsages::UNIFORM),
            Self::Write(size) => buffer(device, *size, wgpu::BufferUsages::STORAGE),
        }
    }
}

/// A compiled shader and the layout of its bindings.
#[derive(Debug)]
pub struct Pipeline {
    /// What a pass sets.
    pub pipeline: wgpu::ComputePipeline,
    /// What its buffers are bound to.
    pub layout: wgpu::BindGroupLayout,
}

impl Pipeline {
    /// Compiles an entry point of a module, for bindings of these kinds in the order of their numbers, and so many bytes of
    /// immediates.
    #[must_use]
    pub fn new(
        device: &Device,
        module: &wgpu::ShaderModule,
        entry: &str,
        bindings: &[Access],
        immediates: usize,
    ) -> Self {
        let entries: Vec<_> = (0..).zip(bindings).map(|(number, access)| layout_entry(number, *access)).collect();
        let descriptor = wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries };
        let layout = device.wgpu().create_bind_group_layout(&descriptor);
        let pipeline_layout = device.wgpu().create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: None,
            bind_group_layouts: &[Some(&layout)],
            immediate_size: immediates as u32,
        });
        let pipeline = device.wgpu().create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: None,
            layout: Some(&pipeline_layout),
            module,
            entry_point: Some(entry),
            compilation_options: Default::default(),
            cache: None,
        });
        Self { pipeline, layout }
    }

    /// Binds buffers, in the order of their numbers.
    #[must_use]
    pub fn bind(&self, device: &Device, buffers: &[&wgpu::Buffer]) -> wgpu::BindGroup {
        let entries = (0..)
            .zip(buffers)
            .map(|(number, buffer)| wgpu::BindGroupEntry { binding: number, resource: buffer.as_entire_binding() });
        device.wgpu().create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &self.layout,
            entries: &entries.collect::<Vec<_>>(),
        })
    }

    /// Records one dispatch of so many workgroups, in a pass of its own.
    pub fn dispatch(&self, encoder: &mut wgpu::CommandEncoder, bindings: &wgpu::BindGroup, groups: [u32; 3]) {
        let mut pass = encoder.begin_compute_pass(&Default::default());
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, bindings, &[]);
        pass.dispatch_workgroups(groups[0], groups[1], groups[2]);
    }
}

fn layout_entry(binding: u32, access: Access) -> wgpu::BindGroupLayoutEntry {
    let ty = match access {
        Access::Read => wgpu::BufferBindingType::Storage { read_only: true },
        Access::ReadWrite => wgpu::BufferBindingType::Storage { read_only: false },
        Access::Uniform => wgpu::BufferBindingType::Uniform,
    };
    wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None },
        count: None,
    }
}

/// A buffer of so many bytes, all zero, that can be copied to and from.
pub fn buffer(device: &Device, size: u64, usage: wgpu::BufferUsages) -> Result<wgpu::Buffer, GpuError> {
    let available = device.facts().limits.buffer;
    if size > available {
        return Err(GpuError::Memory { device: device.facts().name.clone(), needed: size, available });
    }
    let usage = usage | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
    let descriptor = wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false };
    Ok(device.wgpu().create_buffer(&descriptor))
}

/// A buffer with these bytes; their number is a multiple of four.
pub fn filled_buffer(device: &Device, bytes: &[u8], usage: wgpu::BufferUsages) -> Result<wgpu::Buffer, GpuError> {
    let buffer = buffer(device, bytes.len() as u64, usage)?;
    device.queue().write_buffer(&buffer, 0, bytes);
    Ok(buffer)
}

/// The bytes of buffers, once all that was submitted is done.
pub fn read_back(device: &Device, buffers: &[&wgpu::Buffer]) -> Result<Vec<Vec<u8>>, GpuError> {
    let mut encoder = device.wgpu().create_command_encoder(&Default::default());
    let mut copies = Vec::new();
    for buffer in buffers {
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let descriptor = wgpu::BufferDescriptor { label: None, size: buffer.size(), usage, mapped_at_creation: false };
        let copy = device.wgpu().create_buffer(&descriptor);
        encoder.copy_buffer_to_buffer(buffer, 0, &copy, 0, buffer.size());
        copies.push(copy);
    }
    device.queue().submit([encoder.finish()]);
    let (tell, told) = mpsc::channel();
    for copy in &copies {
        let tell = tell.clone();
        copy.map_async(wgpu::MapMode::Read, .., move |mapped| {
            let _ = tell.send(mapped.is_ok());
        });
    }
    device.wait()?;
    // A range that is not mapped must not be touched: wgpu would panic.
    if told.try_iter().filter(|mapped| *mapped).count() < copies.len() {
        let message = "a buffer could not be read back".to_owned();
        return Err(GpuError::Driver { device: device.facts().name.clone(), message });
    }
    Ok(copies.iter().map(|copy| copy.get_mapped_range(..).to_vec()).collect())
}

/// Runs `main` once over buffers that are made for it, and returns the bytes of those that it may write, in their order.
///
/// # Panics
///
/// If a number of bytes is not a positive multiple of four.
pub fn run(
    device: &Device,
    module: &wgpu::ShaderModule,
    bindings: &[Binding],
    groups: [u32; 3],
) -> Result<Vec<Vec<u8>>, GpuError> {
    let buffers = bindings.iter().map(|binding| binding.buffer(device)).collect::<Result<Vec<_>, _>>()?;
    assert!(buffers.iter().all(|buffer| buffer.size() > 0 && buffer.size() % 4 == 0), "buffers of whole words");
    let pipeline = Pipeline::new(device, module, "main", &bindings.iter().map(Binding::access).collect::<Vec<_>>(), 0);
    let bound = pipeline.bind(device, &buffers.iter().collect::<Vec<_>>());
    let mut encoder = device.wgpu().create_command_encoder(&Default::default());
    pipeline.dispatch(&mut encoder, &bound, groups);
    device.queue().submit([encoder.finish()]);
    let written = buffers.iter().zip(bindings).filter(|(_, binding)| binding.access() == Access::ReadWrite);
    read_back(device, &written.map(|(buffer, _)| buffer).collect::<Vec<_>>())
}
