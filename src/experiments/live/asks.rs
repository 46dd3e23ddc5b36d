//! Requests of a trace that ask for more than a prompt: what a live run cannot draw is refused before anything runs.

use std::collections::BTreeSet;
use std::path::Path;

use super::Equipment;
use crate::input::InputError;
use crate::live::details::Details;
use crate::model::Size;
use crate::scenario::Scenario;
use crate::serve::settings::MOST_STEPS;
use crate::trace::Trace;

/// Returns the wishes of each row as workers need them; nothing if the trace has none.
pub(super) fn details(trace: &Trace, checkpoints: &[String]) -> Vec<Details> {
    if !trace.differs() && !has_wishes(trace) {
        return Vec::new();
    }
    let of_row = |row| {
        let wishes = trace.wishes(row);
        let place = checkpoints.iter().position(|name| name == wishes.checkpoint);
        Details {
            checkpoint: place.map_or(0, |place| place as u32 + 1),
            negative_prompt: wishes.negative_prompt.to_owned(),
            guidance: wishes.guidance,
        }
    };
    (0..trace.len()).map(of_row).collect()
}

/// Returns whether a trace has columns of wishes that do not count in its keys.
fn has_wishes(trace: &Trace) -> bool {
    let names = ["checkpoint", "loras", "negative_prompt", "guidance"];
    trace.columns().extra.iter().any(|(name, _)| names.contains(&name.as_str()))
}

/// Refuses a trace with a request that a live run cannot draw.
///
/// # Errors
/// Returns an error that names the first such row of the trace, with what is accepted.
pub(super) fn check(trace: &Trace, scenario: &Scenario, file: &Path, equipment: &Equipment) -> Result<(), InputError> {
    let named = scenario.trace.requests.as_deref().unwrap_or(file);
    let mut drawable = BTreeSet::from([Size::USUAL]);
    for row in (0..trace.len()).filter(|row| trace.place(*row).at == 0) {
        let (ask, wishes) = (trace.ask(row), trace.wishes(row));
        let refused = |column: &str, value: String, accepted: &str| {
            let message = format!("row {} (from 1, below the header): {accepted}", trace.request_at(row) + 1);
            Err(InputError::new(named, message).value(column, value))
        };
        if !wishes.loras.is_empty() {
            let accepted = "expected nothing: live workers take no LoRAs; export a checkpoint that has them";
            return refused("loras", format!("{:?}", wishes.loras), accepted);
        }
        let known = &equipment.checkpoints;
        if !wishes.checkpoint.is_empty() && !known.iter().any(|name| name == wishes.checkpoint) {
            let accepted = match known.as_slice() {
                [] => "expected nothing: the scenario has no live.checkpoints".to_owned(),
                known => format!("expected nothing, or one of live.checkpoints: {}", known.join(", ")),
            };
            return refused("checkpoint", format!("{:?}", wishes.checkpoint), &accepted);
        }
        if ask.steps > MOST_STEPS {
            let accepted = format!("expected at most {MOST_STEPS} steps in a live run");
            return refused("steps", ask.steps.to_string(), &accepted);
        }
        if let Some(guidance) = wishes.guidance
            && let Some(accepted) = equipment.refuses_guidance(guidance)
        {
            return refused("guidance", guidance.to_string(), &accepted);
        }
        if !wishes.negative_prompt.is_empty()
            && let Some(accepted) = equipment.refuses_negative_prompt()
        {
            return refused("negative_prompt", format!("{:?}", wishes.negative_prompt), accepted);
        }
        if drawable.insert(ask.size) {
            let size = [u32::from(ask.size.width), u32::from(ask.size.height)];
            if let Some(accepted) = equipment.undrawable(size)? {
                return refused("width, height", format!("{} x {}", size[0], size[1]), &accepted);
            }
        }
    }
    if drawable.len() > 1 { equipment.check_usual_size(scenario, file) } else { Ok(()) }
}
