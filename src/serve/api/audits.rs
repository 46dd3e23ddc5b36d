//! Audits of hits in the answers of `/v1/status`, the page and `/metrics`. This module alone decides which tenant may
//! see which audits.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Access, Server};
use crate::calibration::audit::Kept;

/// Returns the audits that a key may see: all for an operator, else those of the key's tenant. Returns `None` if hits
/// are not audited.
pub(super) async fn seen(server: &Arc<Server>, access: &Access) -> Option<Vec<Kept>> {
    server.desk.audits()?;
    let tenant = if access.operator { None } else { Some(access.caller().ok()?.name.clone().unwrap_or_default()) };
    let server = server.clone();
    // Resampling takes a while, so that it runs on a thread for blocking work.
    let kept = tokio::task::spawn_blocking(move || server.desk.audits().map(|audits| audits.kept(tenant.as_deref())));
    kept.await.ok().flatten()
}

/// Describes audits as clients get them.
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
