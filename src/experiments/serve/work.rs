//! Loop of a server's scheduler, on a thread of its own: from the loading of the models to the end of the last request.

use std::sync::{Arc, OnceLock};

use tokio::sync::oneshot;

use crate::experiments::ExperimentError;
use crate::experiments::live::{Cached, Equipment};
use crate::image::ImageId;
use crate::journal::{Journal, Record};
use crate::live::executor::{Elsewhere, Intake, Live, Setting};
use crate::replay::{Executor, replay};
use crate::scenario::initial_allocation;
use crate::serve::desk::Desk;
use crate::simulation::Simulation;
use crate::time::Time;

/// Parts of the scheduler's loop, for its thread.
pub(super) struct Loop {
    /// Handle that ends the loop at once; set while the loop runs.
    pub(super) abort: Arc<OnceLock<Intake>>,
    pub(super) simulation: Simulation,
    pub(super) equipment: Equipment,
    pub(super) cached: Cached,
    pub(super) desk: Desk,
    /// Workers on other machines; set once there are any.
    pub(super) elsewhere: Arc<OnceLock<Arc<dyn Elsewhere>>>,
}

impl Loop {
    /// Runs the loop, from the loading of the models to the end of the last request.
    pub(super) fn run(self, ready: oneshot::Sender<()>) -> Result<(), ExperimentError> {
        let Self { abort, simulation, equipment, cached, mut desk, elsewhere } = self;
        let Cached { store, warm, numbers, .. } = cached;
        let scenario = &simulation.scenario;
        let limits = equipment.limits(Some((&simulation.inputs.profile, &scenario.gpus())));
        let say = Arc::new(|sentence: &str| tracing::info!("{sentence}"));
        let staff = equipment.staff(scenario, &limits, false, say)?;
        if let Some(workers) = &staff.elsewhere {
            workers.give_sources(store.sources());
            let _ = elsewhere.set(workers.clone());
        }
        let encoder = equipment.embed(&limits)?;
        let stepping = desk.clone();
        let setting = Setting {
            book: Box::new(desk.clone()),
            models: scenario.model_names(),
            checkpoints: equipment.checkpoints.clone(),
            size: equipment.palette.size,
            paint: staff.paint,
            stepped: Some(Arc::new(move |request, steps| stepping.stepped(request, steps))),
            warn: Box::new(|message| tracing::warn!("{message}")),
            away: Setting::AWAY,
            limits,
            elsewhere: staff.elsewhere,
            isolated: staff.isolated,
        };
        let mut live = Live::start(setting, store, &initial_allocation(scenario).targets, encoder)?;
        let mut actions = Vec::new();
        let mut core = scenario.of_size(equipment.palette.size).live_core(&simulation.inputs, warm, &mut actions);
        for (row, (number, owner)) in (0..).zip(numbers) {
            desk.adopted(ImageId::warm(row), number, owner);
        }
        for action in actions {
            desk.record(Time::ZERO, Record::Action(&action));
            live.submit(Time::ZERO, &action)?;
        }
        let intake = live.intake();
        let _ = abort.set(intake.clone());
        desk.opens(live.clock(), move || intake.wake());
        // The receiver is gone if the network has ended already.
        let _ = ready.send(());
        let (mut inbox, mut journal) = (desk.arrivals(), desk);
        let ended = replay(&mut core, &mut live, &mut inbox, &mut journal);
        let (failures, _) = live.finish();
        for failure in failures {
            tracing::warn!("{failure}");
        }
        Ok(ended?)
    }
}
