//! Prints the hash of a run: `modm-core-alone REQUESTS SEED`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().and_then(|argument| argument.parse::<u32>().ok());
    if let (Some(requests), Some(seed)) = (next(), next()) {
        println!("{:016x}", modm_core_alone::digest(requests, u64::from(seed)));
        return ExitCode::SUCCESS;
    }
    eprintln!("usage: modm-core-alone REQUESTS SEED");
    ExitCode::from(2)
}
