//! Audits of hits in answers: `/v1/status`, the page and `/metrics`. Which tenant may see which audits is decided here, in one
//! place.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Access, Server};
use crate::calibration::audit::Kept;

/// Returns the audits that a key may see: all for an operator, else its tenant's own. `None` where hits are not audited.
pub(super) async fn seen(server: &Arc<Server>, access: &Access) -> Option<Vec<Kept>> {
    server.desk.audits()?;
    let tenant = if access.operator { None } else { Some(access.caller().ok()?.name.clone().unwrap_or_default()) };
    let server = server.clone();
    // Resampled on a thread that may take its time.
    let kept = tokio::task::spawn_blocking(move || server.desk.audits().map(|audits| audits.kept(tenant.as_deref())));
    kept.await.ok().flatten()
}

/// Returns audits as they are answered.
pub(super) fn described(server: &Server, kept: &[Kept]) -> Value {
    let row = |kept: &Kept| {
        let interval = kept.interval();
        json!({
            "tenant": kept.tenant.as_deref().filter(|tenant| !tenant.is_empty()),
            "skipped_steps": kept.skipped_steps,
            "audited": kept.audited,
            "kept": kept.worth.map(|worth| worth.ratio),
            "low": interval.map(|(low, _)| low),
            "high": interval.map(|(_, high)| high),
        })
    };
    json!({
        "share": server.desk.audits().map(crate::serve::audit::Audits::share),
        "kept": kept.iter().map(row).collect::<Vec<_>>(),
    })
}
