//! Section `[tenants]`: entries that a request may find, each tenant's part of the cache, and each tenant's weight and
//! priority in the queue. `cache::tenancy` applies the settings of the cache during a run.

use std::collections::BTreeMap;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Scenario;
use crate::cache::{Scope, Tenancy};
use crate::input::InputError;
use crate::request::{Owner, TenantId};
use crate::scheduler::TenantTerms;
use crate::trace::Trace;

/// Section `[tenants]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Tenants {
    /// Tenants whose entries a request may find.
    pub scope: Scope,
    /// Part of the capacity that each tenant may fill, in the unit of the capacity. If absent, tenants have equal
    /// parts, unless they share everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota: Option<u64>,
    /// Parts of the capacity of single tenants, by name, in place of `quota`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub quotas: BTreeMap<String, u64>,
    /// Weights of the tenants' shares of the service, by name; 1 for the others. Used with `queue.order` `fair` or
    /// `fair_slack`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub weights: BTreeMap<String, f64>,
    /// Priorities of tenants, by name; 0 for the others. Requests of a higher priority are served first in every order
    /// of the queue.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub priorities: BTreeMap<String, u32>,
    /// Tenants whose images requests of all tenants may find, with scope `tenant-then-public`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub public: Vec<String>,
}

impl Tenants {
    /// Checks everything that can be checked without a trace.
    pub(super) fn check(&self, file: &Path) -> Result<(), InputError> {
        if !self.public.is_empty() && self.scope != Scope::TenantThenPublic {
            let way_out = "goes with scope = \"tenant-then-public\"";
            return Err(InputError::new(file, way_out).value("tenants.public", format_args!("{:?}", self.public)));
        }
        if let Some((name, weight)) = self.weights.iter().find(|(_, weight)| !(1e-6..=1e6).contains(*weight)) {
            let accepted = "expected a weight from 0.000001 to 1000000";
            return Err(InputError::new(file, accepted).value(format!("tenants.weights.{name}"), weight));
        }
        Ok(())
    }
}

/// Returns the number of the tenant with this name. `key` names the setting in errors.
fn number(trace: &Trace, file: &Path, key: String, name: &str) -> Result<TenantId, InputError> {
    let names = trace.columns().tenants.as_ref().map_or(&[][..], |column| column.names());
    let found = names.iter().position(|known| known == name);
    found.map(|at| TenantId(at as u32)).ok_or_else(|| {
        let shown: Vec<&str> = names.iter().take(10).map(String::as_str).collect();
        let more = if names.len() > shown.len() { ", ..." } else { "" };
        let accepted = match shown.as_slice() {
            [] => "the trace names no tenants: give requests.csv a column `tenant`".to_owned(),
            shown => format!("expected a tenant of the trace: {}{more}", shown.join(", ")),
        };
        InputError::new(file, accepted).value(key, format_args!("{name:?}"))
    })
}

impl Scenario {
    /// Returns the rules by which the tenants of a trace share the cache.
    ///
    /// # Errors
    /// Returns an error if the trace does not have a name, or if the parts do not fit into the capacity.
    pub(super) fn tenancy(&self, trace: &Trace, file: &Path) -> Result<Tenancy, InputError> {
        let section = &self.tenants;
        let mut tenancy = Tenancy { scope: section.scope, ..Tenancy::default() };
        for (at, name) in section.public.iter().enumerate() {
            tenancy.public.insert(number(trace, file, format!("tenants.public.{at}"), name)?);
        }
        if section.scope == Scope::Shared && section.quota.is_none() && section.quotas.is_empty() {
            return Ok(tenancy);
        }
        // Requests of a trace that names no tenants belong to tenant 0.
        let count = trace.columns().tenants.as_ref().map_or(1, |column| column.names().len());
        let private = (0..count as u32).map(TenantId).filter(|tenant| !tenancy.public.contains(tenant));
        let mut parts: BTreeMap<Owner, Option<u64>> =
            private.map(|tenant| (Owner::Tenant(tenant), section.quota)).collect();
        for (name, quota) in &section.quotas {
            let key = format!("tenants.quotas.{name}");
            let owner = tenancy.owner(number(trace, file, key.clone(), name)?);
            if owner == Owner::Public {
                return Err(InputError::new(file, "is a public tenant: what is public has the rest").key(key));
            }
            parts.insert(owner, Some(*quota));
        }
        if section.scope != Scope::Tenant {
            parts.insert(Owner::Public, None);
        }
        tenancy.shares = self.shares(&parts, file)?;
        Ok(tenancy)
    }

    /// Returns the weight and the priority of a trace's tenants in the queue, by tenant number.
    ///
    /// # Errors
    /// Returns an error if the trace does not have a name.
    pub(super) fn terms(&self, trace: &Trace, file: &Path) -> Result<Vec<TenantTerms>, InputError> {
        let mut terms: Vec<TenantTerms> = Vec::new();
        let mut of = |map: &str, name: &String| {
            let tenant = number(trace, file, format!("tenants.{map}.{name}"), name)?.0 as usize;
            terms.resize(terms.len().max(tenant + 1), TenantTerms::default());
            Ok(tenant)
        };
        let weights = self.tenants.weights.iter().map(|(name, weight)| Ok((of("weights", name)?, *weight)));
        let weights = weights.collect::<Result<Vec<(usize, f64)>, InputError>>()?;
        let priorities = self.tenants.priorities.iter().map(|(name, level)| Ok((of("priorities", name)?, *level)));
        let priorities = priorities.collect::<Result<Vec<(usize, u32)>, InputError>>()?;
        for (tenant, weight) in weights {
            terms[tenant].weight = weight;
        }
        for (tenant, priority) in priorities {
            terms[tenant].priority = priority;
        }
        Ok(terms)
    }

    /// Returns the parts of the capacity by owner. Owners without a quota have equal parts of what the quotas leave. If
    /// all tenants have a quota, the public part has all that is left.
    fn shares(&self, parts: &BTreeMap<Owner, Option<u64>>, file: &Path) -> Result<BTreeMap<Owner, u64>, InputError> {
        let capacity = self.capacity();
        // A sum beyond 64 bits is more than any capacity and is refused like one.
        let given = parts.values().flatten().try_fold(0_u64, |sum, quota| sum.checked_add(*quota));
        let given = given.filter(|given| *given <= capacity).ok_or_else(|| {
            let tenants = parts.values().flatten().count();
            let message = format!("the quotas of {tenants} tenants are more than the capacity of {capacity}");
            InputError::new(file, message).key("tenants.quota")
        })?;
        let open = parts.values().filter(|quota| quota.is_none()).count() as u64;
        // Without an open part the quotient is of no use, and dividing by zero would panic.
        let equal = (capacity - given).checked_div(open).unwrap_or(0);
        let least = self.states_per_entry() as u64;
        let shares: BTreeMap<Owner, u64> =
            parts.iter().map(|(owner, quota)| (*owner, quota.unwrap_or(equal))).collect();
        // The public part may be empty. Requests then find less, and every tenant still has a part of its own.
        if let Some((_, share)) = shares.iter().find(|(owner, share)| **owner != Owner::Public && **share < least) {
            let message = format!(
                "{} parts of a capacity of {capacity}: expected at least {least} for each tenant",
                shares.len()
            );
            return Err(InputError::new(file, message).value("tenants.quota", share));
        }
        Ok(shares)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Source;
    use crate::trace::{Columns, TenantColumn};

    fn tenancy(settings: &str) -> Result<Tenancy, String> {
        let text =
            format!("name = \"a\"\ntrace = {{ requests = \"r.csv\" }}\ncache.capacity = 100\n[tenants]\n{settings}");
        let file = Path::new("s.toml");
        let scenario = Source::new(file, text).and_then(|source| source.scenario(&[]));
        let tenants: TenantColumn = ["a", "b", "c"].into_iter().collect();
        let arrivals = vec![crate::time::Time::ZERO; 3];
        let trace = Trace::new(Columns { arrivals, tenants: Some(tenants), ..Columns::default() });
        scenario.and_then(|scenario| scenario.tenancy(&trace, file)).map_err(|error| error.to_string())
    }

    fn shares(settings: &str) -> Vec<u64> {
        tenancy(settings).unwrap().shares.into_values().collect()
    }

    #[test]
    fn parts_of_the_capacity() {
        assert_eq!(shares(""), [] as [u64; 0]);
        assert_eq!(shares("scope = \"tenant\""), [33, 33, 33]);
        assert_eq!(shares("scope = \"tenant-then-public\""), [25, 25, 25, 25], "the public part comes first");
        assert_eq!(shares("scope = \"tenant-then-public\"\npublic = [\"b\"]"), [33, 33, 33]);
        assert_eq!(shares("scope = \"tenant-then-public\"\nquota = 10"), [70, 10, 10, 10]);
        assert_eq!(shares("scope = \"tenant\"\nquotas = { a = 40 }"), [40, 30, 30]);
        assert_eq!(shares("quota = 20"), [40, 20, 20, 20]);
    }

    #[test]
    fn says_what_is_wrong() {
        let error = |settings: &str| tenancy(settings).unwrap_err();
        assert!(
            error("quota = 40").contains("tenants.quota: the quotas of 3 tenants are more than the capacity of 100")
        );
        assert!(error("scope = \"tenant\"\nquota = 0").contains("expected at least 1 for each tenant"));
        assert!(
            error("quotas = { d = 1 }").contains("tenants.quotas.d = \"d\": expected a tenant of the trace: a, b, c")
        );
        assert!(error("public = [\"a\"]").contains("goes with scope = \"tenant-then-public\""));
        assert!(
            error("scope = \"tenant-then-public\"\npublic = [\"a\"]\nquotas = { a = 1 }")
                .contains("is a public tenant")
        );
    }
}
