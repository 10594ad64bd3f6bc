//! A few particles of many, from the device.

use super::{
    Gpu,
    compute::{buffer, filled_buffer, read_back},
    error::GpuError,
    programs::{GROUP, Pack},
};
use crate::particle::Packed;

impl Gpu {
    /// The states in chosen rows, in their order.
    ///
    /// # Errors
    /// If the device fails.
    ///
    /// # Panics
    /// If nothing was uploaded, or a row is none of the set.
    pub fn pack(&mut self, rows: &[u32]) -> Result<Vec<Packed>, GpuError> {
        let columns = self.columns.as_ref().expect("columns were uploaded");
        let all = columns.cut.rows as u32;
        assert!(rows.iter().all(|&row| row < all), "rows {rows:?} of {all}");
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let chosen = filled_buffer(&self.device, bytemuck::cast_slice(rows), wgpu::BufferUsages::STORAGE)?;
        let bytes = size_of_val(rows) as u64 / 4 * size_of::<Packed>() as u64;
        let packed = buffer(&self.device, bytes, wgpu::BufferUsages::STORAGE)?;
        let [position, momentum] = columns.state();
        let bound = self.programs.pack.bind(&self.device, &[position, momentum, &chosen, &packed]);
        let mut encoder = self.device.wgpu().create_command_encoder(&Default::default());
        {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            pass.set_pipeline(&self.programs.pack.pipeline);
            pass.set_bind_group(0, &bound, &[]);
            pass.set_immediates(0, bytemuck::bytes_of(&Pack { rows: all, chosen: rows.len() as u32 }));
            pass.dispatch_workgroups((rows.len() as u32).div_ceil(GROUP), 1, 1);
        }
        self.device.queue().submit([encoder.finish()]);
        let words = read_back(&self.device, &[&packed])?;
        self.traffic += bytes + size_of_val(rows) as u64;
        Ok(bytemuck::pod_collect_to_vec(&words[0]))
    }
}
