//! Workers of a run: painters on this machine, or a cluster of workers on others. Both stand behind the same trait.

use std::sync::Arc;

use super::Equipment;
use crate::experiments::ExperimentError;
use crate::live::executor::Elsewhere;
use crate::live::limits::Limits;
use crate::live::worker::Paint;
use crate::scenario::Scenario;
use crate::scheduler::WorkerId;

/// Function that takes sentences about a cluster, from any thread.
pub type SayAnywhere = Arc<dyn Fn(&str) + Send + Sync>;

/// Workers of a run.
pub struct Staff {
    /// Function that makes the painter of a worker.
    pub paint: Box<dyn Fn(WorkerId) -> Box<dyn Paint>>,
    /// Cluster, if the workers are on other machines.
    pub elsewhere: Option<Arc<dyn Elsewhere>>,
    /// True if workers keep their limits themselves.
    pub isolated: bool,
}

impl std::fmt::Debug for Staff {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Staff").field("elsewhere", &self.elsewhere.is_some()).finish_non_exhaustive()
    }
}

impl Equipment {
    /// Returns the workers of a run. Workers on other machines are waited for: for `all` of them, or for one and a
    /// moment more.
    ///
    /// # Errors
    /// Returns an error if the place of this program's own file is not known, or if there is no cluster to work with.
    pub fn staff(
        &self,
        scenario: &Scenario,
        limits: &Limits,
        all: bool,
        say: SayAnywhere,
    ) -> Result<Staff, ExperimentError> {
        if let Some(settings) = &self.cluster {
            return self.elsewhere(settings, scenario, limits, all, say);
        }
        Ok(Staff { paint: self.paint(limits)?, elsewhere: None, isolated: self.is_isolated() })
    }
}

#[cfg(feature = "cluster")]
mod elsewhere {
    use super::{Arc, Elsewhere, Equipment, ExperimentError, Limits, SayAnywhere, Scenario, Staff, WorkerId};
    use crate::input::InputError;
    use crate::live::cluster::Cluster;
    use crate::live::cluster::node::hash;
    use crate::live::cluster::protocol::Setup;
    use crate::live::cluster::settings::ClusterSettings;
    use crate::live::encoder::DualEncoder;
    use crate::live::limits::ModelLimits;
    use crate::model::ModelId;

    impl Equipment {
        pub(super) fn elsewhere(
            &self,
            settings: &ClusterSettings,
            scenario: &Scenario,
            limits: &Limits,
            all: bool,
            say: SayAnywhere,
        ) -> Result<Staff, ExperimentError> {
            let (setup, folders) = self.setup(scenario, limits)?;
            let types = scenario.gpu_types();
            let gpus = scenario.gpus().iter().map(|gpu| types[gpu.index()].clone()).collect();
            let cluster = Cluster::open(settings.clone(), setup, (gpus, folders), say)?;
            cluster.wait_for_workers(all)?;
            let cluster = Arc::new(cluster);
            let elsewhere: Arc<dyn Elsewhere> = cluster.clone();
            Ok(Staff {
                paint: Box::new(move |worker| Box::new(cluster.painter(worker))),
                elsewhere: Some(elsewhere),
                isolated: true,
            })
        }

        /// Returns what workers need to know of the run, and the folders that they need, by hash and name.
        fn setup(&self, scenario: &Scenario, limits: &Limits) -> Result<(Setup, Vec<(String, String)>), InputError> {
            let palette = &self.palette;
            let mut folders = Vec::new();
            let mut hashed = |folder: &std::path::PathBuf| {
                let hash = hash(folder)?;
                let name = folder.file_name().unwrap_or(folder.as_os_str()).to_string_lossy().into_owned();
                folders.push((hash.clone(), name));
                Ok::<_, InputError>(hash)
            };
            let models = palette.models.iter().map(|(folder, guidance)| Ok((hashed(folder)?, *guidance)));
            let models = models.collect::<Result<Vec<_>, InputError>>()?;
            let checkpoints = palette.checkpoints.iter().map(|folders| folders.iter().map(&mut hashed).collect());
            let checkpoints = checkpoints.collect::<Result<Vec<Vec<String>>, InputError>>()?;
            // A worker that is told the longest limits of all GPU types has time enough, whatever its own type is.
            let longest = |model: usize| {
                let of = |worker: usize| limits.model(WorkerId(worker as u16), ModelId(model as u16));
                let all = (0..scenario.workers()).map(of);
                let longer = |a: ModelLimits, b: ModelLimits| ModelLimits {
                    load: a.load.max(b.load),
                    step: a.step.max(b.step),
                    around: a.around.max(b.around),
                };
                all.reduce(longer)
            };
            let encoder = scenario.finds_by_image().then(|| DualEncoder::fingerprint(&self.encoder)).transpose()?;
            let setup = Setup {
                limits: (0..models.len()).filter_map(longest).collect(),
                models,
                guided: palette.guided.clone(),
                checkpoints,
                size: palette.size,
                encoder,
                encode: [limits.encode, limits.load_encoder],
            };
            Ok((setup, folders))
        }
    }
}

#[cfg(not(feature = "cluster"))]
impl Equipment {
    #[expect(clippy::unused_self, clippy::needless_pass_by_value, reason = "as with the feature")]
    fn elsewhere(
        &self,
        settings: &crate::live::cluster::settings::ClusterSettings,
        _: &Scenario,
        _: &Limits,
        _: bool,
        _: SayAnywhere,
    ) -> Result<Staff, ExperimentError> {
        let message = "this modm was built without clusters: build it with `--features cluster`";
        Err(crate::input::InputError::new("the scenario", message).value("live.cluster.url", &settings.url).into())
    }
}
