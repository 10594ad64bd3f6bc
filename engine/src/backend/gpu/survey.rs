//! What the particles on a device hold, counted there.

use super::{
    Gpu,
    compute::read_back,
    error::GpuError,
    programs::Survey,
    tally::{Layout, SurveyRecord},
};
use crate::{force::Law, integrator::portable::kinetic_scale, math::Exact, quanta::Quanta};

impl Gpu {
    /// Counts everything that is counted over particles one by one, and with a law the binding energy of all pairs as well.
    ///
    /// # Errors
    /// If the device fails.
    ///
    /// # Panics
    /// If nothing was uploaded.
    pub fn survey(&mut self, quanta: &Quanta, law: Option<&Law>) -> Result<SurveyRecord, GpuError> {
        let columns = self.columns.as_ref().expect("columns were uploaded");
        let cut = columns.cut;
        let mut encoder = self.device.wgpu().create_command_encoder(&Default::default());
        encoder.clear_buffer(&columns.survey, 0, None);
        {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            let parameters = Survey {
                rows: cut.rows as u32,
                tests: cut.tests as u32,
                kinetic_scale: kinetic_scale(quanta),
                unused: 0,
            };
            let [x, y, z] = cut.row_groups();
            pass.set_pipeline(&self.programs.count.pipeline);
            pass.set_bind_group(0, &columns.bindings.count, &[]);
            pass.set_immediates(0, bytemuck::bytes_of(&parameters));
            pass.dispatch_workgroups(x, y, z);
            if let Some(law) = law {
                let [x, y, z] = cut.pair_groups();
                pass.set_pipeline(&self.programs.potential.pipeline);
                pass.set_bind_group(0, &columns.bindings.potential, &[]);
                pass.set_immediates(0, &self.binding(columns, law));
                pass.dispatch_workgroups(x, y, z);
            }
        }
        self.device.queue().submit([encoder.finish()]);
        let bytes = read_back(&self.device, &[&columns.survey])?;
        self.traffic += Layout::SURVEY.bytes();
        let mut record = SurveyRecord::of(&bytemuck::pod_collect_to_vec::<u8, u32>(&bytes[0]));
        record.kinetic = Exact::sum_of_parts(record.kinetic);
        record.binding = if record.binding_out_of_range { Exact::BEYOND } else { Exact::sum_of_parts(record.binding) };
        Ok(record)
    }
}
