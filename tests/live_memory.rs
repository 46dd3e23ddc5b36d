//! Memory stays where it is over many jobs and many model switches. A test of its own, so that nothing else
//! grows in its process meanwhile.

#![cfg(all(feature = "live", target_os = "linux"))]

#[path = "common/onnxruntime.rs"]
mod onnxruntime;

use std::path::Path;
use std::sync::Arc;

use modm::live::details::USUAL;
use modm::live::measure::resident_mb;
use modm::live::painter::{Painter, Palette};
use modm::live::picture::Picture;
use modm::live::settings::Device;
use modm::live::worker::{Paint, Task};
use modm::model::{ModelId, Work};
use modm::request::RequestId;

const SWITCHES: u32 = 200;
const JOBS_BETWEEN: u32 = 10;
/// After so many switches the process has what it needs.
const WARM: u32 = 40;
/// Memory that may come and go, MB; one of the models leaked at each switch would be 150 MB.
const SLACK_MB: f64 = 10.0;

#[test]
fn memory_is_flat_over_two_thousand_jobs_and_two_hundred_switches() {
    let models =
        ["small", "tiny"].map(|name| (Path::new(env!("CARGO_MANIFEST_DIR")).join("models/shapes").join(name), None));
    let palette = Palette::new(models.to_vec(), [32, 32]);
    let mut painter = Painter::new(onnxruntime::library(), Device::default(), Arc::new(palette));
    let source = Picture::new(32, 32, vec![90; 3 * 32 * 32]);
    let (mut warm, mut most) = (0.0, 0.0_f64);
    for switch in 0..SWITCHES {
        let model = ModelId((switch % 2) as u16);
        painter.load(model).unwrap();
        for job in 0..JOBS_BETWEEN {
            let request = RequestId(switch * JOBS_BETWEEN + job);
            let skipped_steps = if job % 2 == 0 { 0 } else { 2 };
            let work = Work::new(model, 4, skipped_steps);
            let prompt = "a large red star at the center on a blue background";
            let noise = (1, u64::from(request.0));
            let source = (skipped_steps > 0).then_some(&source);
            let task = Task { request, noise, prompt, details: &USUAL, work, source, image: None };
            painter.draw(&task, &|| true).unwrap();
        }
        let now = resident_mb().unwrap();
        if switch == WARM {
            warm = now;
        }
        most = most.max(now);
    }
    assert!(most - warm < SLACK_MB, "{warm:.1} MB after {WARM} switches, {most:.1} MB at most");
}
