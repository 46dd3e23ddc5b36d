//! Service times on workers that a network is in front of. Policies expect these; the simulator makes the transfers
//! one by one (docs/semantics.md, section 8, "Network").

use alloc::vec::Vec;

use super::{Profile, Service};
use crate::network::Network;

impl Service {
    /// Returns the row with the transfers of jobs and loads.
    fn with_network(&self, network: &Network) -> Self {
        let (round_trip_s, picture_s) = (network.round_trip().seconds(), network.picture_alone().seconds());
        let load_after = self.load_after.iter().map(|(model, seconds)| (model.clone(), seconds + round_trip_s));
        Self {
            overhead_s: self.overhead_s + round_trip_s,
            decode_s: self.decode_s + picture_s,
            source_s: self.source_s + round_trip_s + picture_s,
            // A change of checkpoint is part of a job, whose round trip is counted already.
            checkpoint_s: Some(self.checkpoint_s.unwrap_or(self.load_s)),
            load_s: self.load_s + round_trip_s,
            load_after: load_after.collect(),
            ..self.clone()
        }
    }
}

impl Profile {
    /// Returns the profile with the transfers of jobs and loads in its times, as they are without other traffic.
    #[must_use]
    pub fn with_network(&self, network: &Network) -> Self {
        let round_trip_s = network.round_trip().seconds();
        let after = |row: &Vec<f64>| row.iter().map(|seconds| seconds + round_trip_s).collect();
        Self {
            service: self.service.iter().map(|row| row.with_network(network)).collect(),
            load_after: self.load_after.iter().map(after).collect(),
            ..self.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Change, GpuId, ModelId, Work};
    use crate::profile::ProfileFile;
    use crate::time::Duration;

    #[test]
    fn transfers_are_in_the_times_of_jobs_and_loads_and_not_in_changes() {
        let row = |model: &str, more: &str| {
            format!("[[service]]\ngpu = \"a\"\nmodel = \"{model}\"\nstep_s = 1\noverhead_s = 2\nload_s = 20\n{more}")
        };
        let own = "load_after = { l = 5 }\nlora_s = 3\n";
        let text = format!("source = \"test\"\n{}{}", row("l", ""), row("s", own));
        let file: ProfileFile = toml::from_str(&text).expect("a profile");
        let profile = Profile::select(&file, &["a".into()], &["l".into(), "s".into()]).expect("its rows are there");
        // A round trip of half a second, and a quarter of a second for a picture.
        let network = Network {
            nodes: vec![0],
            latency: Duration::from_nanoseconds(250_000_000),
            bandwidth: 32,
            node_bandwidth: 64,
            picture_bytes: 1,
            usual_pixels: 1,
            sources: 0,
        };
        let (small, gpu) = (ModelId(1), GpuId(0));
        let seconds = |profile: &Profile, skipped| profile.service(gpu, small).job_s(Work::new(small, 10, skipped));
        let with = profile.with_network(&network);
        let longer = |skipped| seconds(&with, skipped) - seconds(&profile, skipped);
        assert!((longer(0) - 0.75).abs() < 1e-9 && (longer(4) - 1.5).abs() < 1e-9);
        for (from, expected) in [(None, 20.5), (Some(ModelId(0)), 5.5), (Some(small), 20.5)] {
            assert!((with.load(gpu, from, small).seconds() - expected).abs() < 1e-9, "{from:?}");
        }
        for change in [Change::Nothing, Change::Loras, Change::Checkpoint, Change::Both] {
            let seconds = |profile: &Profile| profile.service(gpu, small).change_s(change);
            assert!((seconds(&with) - seconds(&profile)).abs() < 1e-9, "{change:?}");
        }
    }
}
