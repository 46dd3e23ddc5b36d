//! Image cache on disk, as an earlier run left it for the next run.

use std::path::Path;

use super::Equipment;
use crate::cache::Scope;
use crate::image::ImageId;
use crate::input::InputError;
use crate::live::encoder::DualEncoder;
use crate::live::faults::Faults;
use crate::live::store::{FoundEntry, Opened, Store, TestableDisk, Traits};
use crate::model::Size;
use crate::request::{Ask, Owner, TenantId};
use crate::scenario::Scenario;
use crate::scheduler::WarmImage;
use crate::simulation::Simulation;
use crate::trace::Trace;
use crate::trace::asks::{KeyRule, Numbering, Wishes};

/// Image cache as an earlier run left it.
#[derive(Debug)]
pub struct Cached {
    /// Images on disk.
    pub store: Store,
    /// Images of the store as the scheduler takes them, oldest first.
    pub warm: Vec<WarmImage>,
    /// Number in the store and tenant, if known, of each image.
    pub numbers: Vec<(u64, Option<TenantId>)>,
    /// Warnings about entries that are damaged or left out, in sentences.
    pub warnings: Vec<String>,
}

/// Entries of the store that a run does not use. They stay on disk, and no request finds them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strangers {
    /// Entries of tenants that the trace does not name, if the cache is not shared by all tenants.
    OfOtherTenants,
    /// Entries of tenants that the trace does not name and entries without a tenant, in any scope of the cache.
    WithoutKnownOwner,
}

impl Cached {
    /// Opens the store that the scenario in `file` names, or the store in the folder `own` if the scenario names none.
    /// The images get their keys from the numbers of the requests.
    ///
    /// # Errors
    /// Returns an error if the store cannot be used.
    pub fn open(
        simulation: &Simulation,
        equipment: &Equipment,
        file: &Path,
        own: &Path,
        strangers: Strangers,
        numbering: &mut Numbering,
    ) -> Result<Self, InputError> {
        let (scenario, trace) = (&simulation.scenario, &simulation.inputs.trace.trace);
        let place = scenario.live.store.as_ref().map_or(own.to_owned(), |store| Scenario::resolve(file, store));
        let fingerprint = DualEncoder::fingerprint(&equipment.encoder)?;
        let disk = TestableDisk::new(Faults::from_environment());
        let Opened { store, mut found, mut warnings } = Store::open(&place, scenario.live.images, &fingerprint, disk)?;
        warnings.extend(set_strangers_aside(&mut found, strangers, scenario, trace));
        let known = |entry: &FoundEntry| entry.tenant.as_ref().and_then(|name| tenant(trace, name));
        let numbers = found.iter().map(|entry| (entry.number, known(entry))).collect();
        // The scheduler numbers warm images in the order of `warm`, which is that of the entries that are left.
        for (row, entry) in (0..).zip(&found) {
            store.adopt(ImageId::warm(row), entry);
        }
        let (usual, rule) = (equipment.palette.size, scenario.key_rule());
        let mut ask = |traits: &Traits| ask(traits, usual, &rule, numbering);
        let warm = found.into_iter().map(|entry| warm_image(entry, trace, &mut ask)).collect();
        Ok(Self { store, warm, numbers, warnings })
    }
}

/// Returns the tenant with a name, if the trace has that tenant.
fn tenant(trace: &Trace, name: &str) -> Option<TenantId> {
    let names = trace.columns().tenants.as_ref()?.names();
    names.iter().position(|known| known == name).map(|at| TenantId(at as u32))
}

/// Removes the strangers from the entries to use, and returns a sentence with their number. The store keeps them.
fn set_strangers_aside(
    found: &mut Vec<FoundEntry>,
    strangers: Strangers,
    scenario: &Scenario,
    trace: &Trace,
) -> Option<String> {
    let named = |entry: &FoundEntry| entry.tenant.as_ref().map(|name| tenant(trace, name).is_some());
    let before = found.len();
    match strangers {
        Strangers::OfOtherTenants if scenario.tenants.scope == Scope::Shared => return None,
        Strangers::OfOtherTenants => found.retain(|entry| named(entry) != Some(false)),
        Strangers::WithoutKnownOwner => found.retain(|entry| named(entry) == Some(true)),
    }
    let aside = before - found.len();
    let whose = match strangers {
        Strangers::OfOtherTenants => "of tenants that the trace does not name",
        Strangers::WithoutKnownOwner => "of nobody who has a key",
    };
    (aside > 0).then(|| format!("{aside} entries of the store are {whose}: set aside, nobody finds them"))
}

/// Returns the size and the key of an image with these traits.
fn ask(traits: &Traits, usual: [u32; 2], rule: &KeyRule, numbering: &mut Numbering) -> Ask {
    let wishes = Wishes {
        checkpoint: &traits.checkpoint,
        loras: "",
        negative_prompt: &traits.negative_prompt,
        guidance: traits.guidance,
    };
    let (key, weights) = numbering.number(&wishes, rule);
    Ask { size: Size::of_pixels(traits.size.unwrap_or(usual), usual), key, weights, ..Ask::default() }
}

fn warm_image(entry: FoundEntry, trace: &Trace, ask: &mut impl FnMut(&Traits) -> Ask) -> WarmImage {
    let ask = ask(&entry.traits);
    let tenant = entry.tenant.and_then(|name| tenant(trace, &name));
    WarmImage { key: entry.key, owner: tenant.map_or(Owner::Public, Owner::Tenant), bytes: None, ask }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedding::Embedding;
    use crate::scenario::Source;
    use crate::time::Time;
    use crate::trace::Columns;

    #[test]
    fn where_tenants_are_apart_strangers_stay_in_the_store() {
        let entry = |number, tenant: Option<&str>| FoundEntry {
            number,
            key: Embedding::normalised(&[1.0]).expect("a direction"),
            tenant: tenant.map(str::to_owned),
            origins: Vec::new(),
            traits: Traits::default(),
        };
        let all = || vec![entry(1, Some("a")), entry(2, Some("x")), entry(3, None), entry(4, Some("b"))];
        let (arrivals, tenants) = (vec![Time::ZERO; 2], Some(["b", "a"].into_iter().collect()));
        let trace = Trace::new(Columns { arrivals, tenants, ..Columns::default() });
        let numbers = |found: &[FoundEntry]| found.iter().map(|entry| entry.number).collect::<Vec<_>>();
        let cases = [
            ("shared", Strangers::OfOtherTenants, vec![1, 2, 3, 4]),
            ("tenant", Strangers::OfOtherTenants, vec![1, 3, 4]),
            ("shared", Strangers::WithoutKnownOwner, vec![1, 4]),
            ("tenant", Strangers::WithoutKnownOwner, vec![1, 4]),
        ];
        for (scope, strangers, kept) in cases {
            let text = format!("name = \"a\"\ntrace = {{ requests = \"r.csv\" }}\ntenants.scope = \"{scope}\"\n");
            let scenario = Source::new(Path::new("s.toml"), text).and_then(|source| source.scenario(&[]));
            let mut found = all();
            let said = set_strangers_aside(&mut found, strangers, &scenario.expect("a scenario"), &trace);
            assert_eq!(numbers(&found), kept);
            assert_eq!(said.is_some(), kept.len() < 4);
        }
        let owners: Vec<Owner> =
            all().into_iter().map(|entry| warm_image(entry, &trace, &mut |_| Ask::default()).owner).collect();
        let [a, b] = [1, 0].map(|number| Owner::Tenant(TenantId(number)));
        assert_eq!(owners, [a, Owner::Public, Owner::Public, b], "whom the trace does not name, nobody is");
    }
}
