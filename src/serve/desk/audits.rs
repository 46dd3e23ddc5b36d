//! Audits at the desk. For a hit that was chosen for an audit, the desk requests the prompt once more, as a background
//! request that must neither hit nor be kept. The picture of the audit is scored like the picture of the hit. No figure
//! about users' requests includes audits.

use std::sync::Arc;

use super::clerk::{ClerkState, Open};
use super::{Arrival, Ask, Desk, Inner, News, View, lock};
use crate::calibration::audit::Audit;
use crate::embedding::{Embedding, similarity};
use crate::model::ModelId;
use crate::request::{Outcome, Request, RequestId, Reuse};
use crate::scheduler::{DecisionKind, Event};

/// Largest number of audits under way. Further audits are skipped, so that none waits for long.
const MOST: usize = 4;

/// Purpose of a request.
#[derive(Debug, Default)]
pub(super) enum Role {
    /// Request of a client.
    #[default]
    User,
    /// Request of a client that is audited if it is a hit. The value has the embedding of its prompt, once that is
    /// known.
    Drawn(Option<Embedding>),
    /// Audit of a hit. The values are the hit, and the embedding of the audit's prompt, once that is known.
    Audit(Box<Hit>, Option<Embedding>),
}

/// Hit that is audited.
#[derive(Debug)]
pub(super) struct Hit {
    tenant: String,
    skipped_steps: u32,
    similarity: f64,
    score: f64,
}

/// Audit that is to be requested.
pub(super) struct Due {
    pub(super) ask: Ask,
    pub(super) hit: Hit,
}

impl Role {
    pub(super) const fn is_audit(&self) -> bool {
        matches!(self, Self::Audit(..))
    }
}

impl ClerkState {
    /// Returns whether a request is an audit.
    pub(super) fn audits(&self, id: RequestId) -> bool {
        self.open(id).is_some_and(|open| open.role.is_audit())
    }
}

impl Desk {
    /// Requests the large model's picture for the prompt of a hit, if there is room for another audit.
    pub(super) fn audit(&self, ask: Ask, hit: Hit) {
        let inner = &self.0;
        if self.is_draining() || lock(&inner.state).auditing >= MOST {
            inner.skip(if self.is_draining() { "draining" } else { "busy" });
            return;
        }
        lock(&inner.state).auditing += 1;
        let mut queue = lock(&inner.queue);
        // The audit is not counted among the waiting requests: it takes no room from clients.
        let (time, id) = (self.now(), queue.next_id());
        let (reuse, wishes) = (ask.reuse, ask.wishes);
        let request = Request { reuse, background: true, ask: wishes, ..Request::new(id, time, ask.tenant) };
        let view = View { arrived: time, ..View::default() };
        let open = Open { request, ask, view, role: Role::Audit(Box::new(hit), None), over: None };
        // The loop is not woken: it calls this function itself, and takes the entry in its next turn.
        queue.incoming.push(Arrival { time, what: News::Event(Event::Arrived(request)), open: Some(open) });
    }
}

impl Inner {
    /// Decides whether an arriving request is audited if it is a hit. A request that must not be kept is never audited.
    pub(super) fn drawn(&self, mut open: Open) -> Open {
        let drawn = self.audits.as_ref().is_some_and(|audits| audits.draws(open.request.id));
        if matches!(open.role, Role::User) && open.request.reuse.keep && drawn {
            open.role = Role::Drawn(None);
        }
        open
    }

    fn skip(&self, reason: &'static str) {
        if let Some(audits) = &self.audits {
            audits.skip(reason);
        }
    }

    /// Takes the embeddings from which scores are computed. Returns the audit that is due once a hit has its score.
    pub(super) fn heard(&self, state: &mut ClerkState, event: &Event) -> Option<Due> {
        let audits = self.audits.as_ref()?;
        let (Event::Encoded { request, embedding } | Event::ImageEncoded { request, embedding }) = event else {
            return None;
        };
        let open = state.open_mut(*request)?;
        if matches!(event, Event::Encoded { .. }) {
            if let Role::Drawn(prompt) | Role::Audit(_, prompt) = &mut open.role {
                prompt.clone_from(embedding);
            }
            return None;
        }
        let score = |prompt: &Option<Embedding>| {
            let (prompt, picture) = prompt.as_ref().zip(embedding.as_ref())?;
            Some(similarity(prompt.as_slice(), picture.as_slice()))
        };
        match &open.role {
            Role::User => None,
            Role::Drawn(prompt) => {
                let score = score(prompt);
                self.due(open, score)
            }
            Role::Audit(hit, prompt) => {
                // A picture of another model does not measure the large model's quality.
                let by_large = open.view.started.is_some_and(|(_, model)| model == ModelId::LARGE);
                match score(prompt).filter(|_| by_large) {
                    Some(large_score) => audits.add(&hit.audited(large_score)),
                    None => audits.skip("failed"),
                }
                None
            }
        }
    }

    /// Returns the audit of a request, if the request was a hit.
    fn due(&self, open: &Open, score: Option<f64>) -> Option<Due> {
        let decision = open.view.decision.filter(|decision| decision.kind == DecisionKind::Hit)?;
        let tenant = self.facts.tenants.get(open.request.tenant.0 as usize).cloned().unwrap_or_default();
        let hit = Hit {
            tenant,
            skipped_steps: decision.skipped_steps,
            similarity: decision.similarity.unwrap_or(0.0),
            score: score?,
        };
        let ask = Ask {
            prompt: Arc::clone(&open.ask.prompt),
            tenant: open.request.tenant,
            // The audit has the noise of the hit, so that the two pictures differ only in how they were made.
            seed: Some(self.noise(open)),
            deadline: None,
            reuse: Reuse::NONE,
            wishes: open.ask.wishes,
            details: open.ask.details.clone(),
            source: None,
            progress: None,
        };
        Some(Due { ask, hit })
    }

    /// Returns the seed and row from which a request's noise derives.
    pub(super) fn noise(&self, open: &Open) -> (u64, u64) {
        open.ask.seed.unwrap_or((self.facts.seed, u64::from(open.request.id.0)))
    }

    /// Notes the end of an audit. An audit that did not complete is counted as skipped; one that completed is counted
    /// when its picture is scored.
    pub(super) fn audit_ended(&self, state: &mut ClerkState, outcome: &Outcome) {
        state.auditing -= 1;
        match outcome {
            Outcome::Completed => {}
            Outcome::Cancelled => self.skip("called off"),
            Outcome::Rejected(_) => self.skip("draining"),
            Outcome::Failed(_) => self.skip("failed"),
        }
    }
}

impl Hit {
    fn audited(&self, large_score: f64) -> Audit {
        Audit {
            created: crate::serve::seconds_since_1970(),
            tenant: self.tenant.clone(),
            skipped_steps: self.skipped_steps,
            similarity: self.similarity,
            hit_score: self.score,
            large_score,
        }
    }
}
