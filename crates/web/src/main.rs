//! Prints the page's numbers, for comparison: `modm-web [CONTROL=NUMBER ...]`. The lines are the run, the capacities
//! and the files, each as JSON.

use std::process::ExitCode;

use modm_web::presets;
use modm_web::session::{self, Session};
use modm_web::settings::{CONTROLS, Settings};

fn main() -> ExitCode {
    match answers(std::env::args().skip(1)) {
        Ok(lines) => {
            for line in lines {
                println!("{line}");
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("modm-web: {error}");
            ExitCode::from(2)
        }
    }
}

fn answers(arguments: impl Iterator<Item = String>) -> Result<[String; 3], String> {
    let mut numbers = Settings::default().numbers();
    for argument in arguments {
        let (name, value) = argument.split_once('=').ok_or(format!("{argument}: expected CONTROL=NUMBER"))?;
        if name == "preset" {
            numbers =
                Settings::of_preset(presets::named(value).ok_or(format!("{argument}: no such preset"))?).numbers();
            continue;
        }
        let place = CONTROLS.iter().position(|control| control.name == name);
        let place = place.ok_or(format!("{argument}: no such control"))?;
        numbers[place] = value.parse().map_err(|_| format!("{argument}: expected a number"))?;
    }
    let (settings, mut session) = (Settings::from_numbers(numbers)?, Session::default());
    let run = session.run(&settings)?;
    let mut capacity = session.capacity(&settings)?;
    while !capacity.ends_with("\"done\":true}") {
        capacity = session.capacity(&settings)?;
    }
    Ok([run, capacity, session::files(&settings)])
}
