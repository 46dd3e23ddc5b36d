//! Logs of every kind as a source, and what is said of them.

use super::super::tests::{import, notes};
use super::super::{ColumnChoice, Format, LogOptions, Options, Source, TimeUnit};
use crate::time::Duration;

fn read_as(name: &str, text: &str, columns: &[&str]) -> Result<Source, String> {
    let columns: Vec<ColumnChoice> = columns.iter().map(|choice| choice.parse().unwrap()).collect();
    import(
        name,
        text.as_bytes(),
        Some(Format::Log),
        Options { log: LogOptions { columns, ..LogOptions::default() }, ..Options::default() },
    )
}

fn read(text: &str) -> Result<Source, String> {
    read_as("l", text, &[])
}

fn arrivals(source: &Source) -> Vec<f64> {
    source.arrivals.as_ref().unwrap().iter().map(|time| time.seconds()).collect()
}

fn prompts(source: &Source) -> Vec<&str> {
    source.prompts.as_ref().unwrap().iter().collect()
}

const LOG: &str = "timestamp,user_id,prompt,size,steps,status,latency_ms\n\
                   2026-03-02T08:00:00.5+02:00,u1,a cat,1024x768,28,ok,9\n\
                   2026-03-02T08:00:02+02:00,u2,\"a dog, red\",auto,0,200,9\n\
                   2026-03-02T06:00:01Z,u1,,512x512,28,ok,9\n\
                   2026-03-02T06:00:05Z,u1,x,512x512,28,error,9\n\
                   2026-03-02T06:00:06Z,u1,x,512x512,28,maybe,9\n\
                   soon,u1,x,512x512,28,ok,9\n\
                   2026-03-02T06:00:01.5,u1,an owl,,,succeeded,9\n\
                   2026-03-02T06:00:09Z,u1\n";

#[test]
fn a_service_log() {
    let source = read(LOG).unwrap();
    assert_eq!(arrivals(&source), [0.0, 1.5, 1.0]);
    assert_eq!(prompts(&source), ["a cat", "a dog, red", "an owl"]);
    assert_eq!(source.tenants.as_ref().unwrap().iter().collect::<Vec<_>>(), ["u1", "u2", "u1"]);
    let extra: Vec<(&str, Vec<&str>)> =
        source.extra.iter().map(|(name, texts)| (name.as_str(), texts.iter().collect())).collect();
    assert_eq!(
        extra,
        [("width", vec!["1024", "", ""]), ("height", vec!["768", "", ""]), ("steps", vec!["28", "", ""])]
    );
    assert_eq!(
        notes(&source),
        [
            "CSV",
            "arrival_s from `timestamp` (dates), prompt from `prompt`, status from `status`, tenant from `user_id`, size \
             from `size`, steps from `steps`",
            "columns not used: latency_ms",
            "1 rows left out without a prompt (line 4)",
            "1 rows left out with status error (line 5)",
            "1 rows left out with status maybe, which is unknown (line 6)",
            "1 rows left out with a time that cannot be read as dates (line 7)",
            "1 rows left out with another number of fields than the header (line 9)",
            "1 times without an offset from UTC: UTC is assumed",
            "1 values of width left out that cannot be asked for",
            "1 values of height left out that cannot be asked for",
            "1 values of steps left out that cannot be asked for",
            "time zero is the first request"
        ]
    );
    let kept = source.kept.unwrap();
    assert_eq!((kept.rows, kept.of), (vec![0, 1, 6], 8));
}

#[test]
fn failed_requests_stay_if_asked_for() {
    let options = Options { keep_unfinished: true, ..Options::default() };
    let source = import("l", LOG.as_bytes(), Some(Format::Log), options).unwrap();
    assert_eq!(prompts(&source), ["a cat", "a dog, red", "x", "x", "an owl"]);
    assert_eq!(read_as("l", LOG, &["status="]).unwrap().len(), 5);
    assert_eq!(read_as("l", LOG, &["prompt=user_id", "status="]).unwrap().len(), 6);
}

#[test]
fn json_in_every_notation_reads_the_same() {
    let rows =
        ["{\"ts\": 5, \"request\": {\"prompt\": \"a\"}, \"n\": 2}", "{\"ts\": 7.25, \"request\": {\"prompt\": \"b\"}}"];
    for text in [rows.join("\n"), format!("[{}]", rows.join(",\n")), rows.join(" ").replace(", ", ",\n")] {
        let source = read(&text).unwrap();
        assert_eq!((arrivals(&source), prompts(&source)), (vec![5.0, 7.25], vec!["a", "b"]), "{text}");
        assert_eq!(source.extra[0].1.iter().collect::<Vec<_>>(), ["2", ""]);
    }
}

#[test]
fn public_schedules() {
    let mooncake = "{\"timestamp\": 0, \"input_length\": 6755, \"output_length\": 500, \"hash_ids\": [0, 1]}\n\
                    {\"timestamp\": 3052, \"input_length\": 7319, \"output_length\": 490, \"hash_ids\": [0, 14]}\n";
    let source = read(mooncake).unwrap();
    assert_eq!((arrivals(&source), source.prompts.is_none()), (vec![0.0, 3.052], true));
    assert!(notes(&source).iter().any(|note| note.starts_with("milliseconds as in Mooncake's traces")));
    let options = Options {
        log: LogOptions { time_unit: Some(TimeUnit::Seconds), ..LogOptions::default() },
        ..Options::default()
    };
    let seconds = import("l", mooncake.as_bytes(), Some(Format::Log), options).unwrap();
    assert_eq!(arrivals(&seconds), [0.0, 3052.0]);

    let aiperf = "{\"timestamp\": 500, \"text\": \"a cat\"}\n{\"timestamp\": 1000, \"texts\": [\"a dog\"]}\n";
    assert_eq!(arrivals(&read(aiperf).unwrap()), [0.5], "one key for one column");
    let turns = "{\"session_id\": \"s1\", \"turns\": [{\"timestamp\": 0, \"text\": \"a\"}, {\"timestamp\": 900, \"text\": \"b\"}, \
                 {\"delay\": 7, \"text\": \"c\"}]}\n";
    let source = read(turns).unwrap();
    assert_eq!((arrivals(&source), prompts(&source)), (vec![0.0, 0.9], vec!["a", "b"]));
    assert_eq!(source.tenants.unwrap().iter().collect::<Vec<_>>(), ["s1", "s1"]);

    let burst = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n\
                 5,ChatGPT,472,18,490,Conversation log\n45,ChatGPT,1087,230,1317,Conversation log\n";
    let source = read(burst).unwrap();
    assert_eq!((arrivals(&source), source.prompts.is_none()), (vec![5.0, 45.0], true));
}

#[test]
fn deadlines_are_after_the_arrival_or_times() {
    let source = read("ts,text,deadline_ms\n1,a,1500\n2,b,\n").unwrap();
    let seconds = |source: &Source| -> Vec<Option<f64>> {
        source.deadlines.as_ref().unwrap().iter().map(|deadline| deadline.map(Duration::seconds)).collect()
    };
    assert_eq!(seconds(&source), [Some(1.5), None]);
    let source = read(
        "ts,text,due_at\n2026-03-02T08:00:00Z,a,2026-03-02T08:00:30Z\n2026-03-02T08:00:05Z,b,2026-03-02T08:00:01Z\n",
    )
    .unwrap();
    assert_eq!(seconds(&source), [Some(30.0), None]);
    assert!(notes(&source).contains(&"1 deadlines left out that are no time after the arrival".to_owned()));
}

#[test]
fn values_of_other_types_are_named() {
    let error = |text: &str, columns: &[&str]| read_as("l", text, columns).err().unwrap();
    assert_eq!(
        error(
            "{\"ts\": 1, \"text\": \"a\", \"who\": \"u\"}\n{\"ts\": 2, \"text\": \"b\", \"who\": [1]}\n",
            &["tenant=who"]
        ),
        "l:2: who: expected text or a number, found a list: `--column tenant=NAME` takes another column, \
         `--column tenant=` none"
    );
    let source =
        read("{\"ts\": 1, \"prompt\": \"a\"}\n{\"ts\": 2, \"prompt\": 17}\n{\"ts\": 3, \"prompt\": [\"a\", \"b\"]}\n");
    let source = source.unwrap();
    assert_eq!(prompts(&source), ["a"]);
    assert!(notes(&source).contains(&"1 rows left out with an integer for a prompt (line 2)".to_owned()));
    let numbers = read("{\"ts\": 1, \"prompt\": 17}\n").unwrap();
    assert!(numbers.prompts.is_none());
    assert!(
        notes(&numbers).contains(&"`prompt` is not read as prompt: expected text, found an integer (17)".to_owned())
    );
}

#[test]
fn refusals_name_the_way_out() {
    let error = |text: &str| read(text).err().unwrap();
    assert_eq!(error(" \n"), "l: is empty: expected a row for each request");
    assert_eq!(error("ts,prompt\n"), "l: expected at least one row below the header");
    assert_eq!(
        error("id2,when,what\n1,5,a\n"),
        "l: no column looks like the time of arrival or the prompt: say which with --column arrival_s=NAME and --column \
         prompt=NAME; there are id2 (text: 1), when (text: 5), what (text: a)"
    );
    assert!(error("0,1.33,8.6,Weibull,0.37,0.39\n600,0,0,,0,0\n").contains("generate requests with ServeGen"));
    assert!(error("2026-03-02T08:00:00Z,a cat\n").contains("has no header: put a line with the names"));
    assert_eq!(
        error("ts,prompt,status\n1,a,failed\n2,,ok\n3,b,failed\n"),
        "l: no row can be used of 3: 2 with status failed (first: line 2), 1 without a prompt (line 3); `--column status=` \
         reads no status, `--keep unfinished` keeps these rows"
    );
    let untimed = read("ts,prompt\nsoon,a\n").unwrap().missing.times.unwrap();
    assert!(untimed.starts_with("no column looks like the time of arrival: say which with --column arrival_s=NAME"));
}

#[test]
fn ambiguities_and_labels_are_said() {
    let source = read(
        "id,created_at,timestamp,prompt,caption\n7,2026-03-02 08:00:00,2026-03-02 08:00:01,a,b\n7,2026-03-02 \
                       08:00:02,2026-03-02 08:00:03,c,d\n",
    )
    .unwrap();
    assert_eq!(source.request_ids, None);
    let said = notes(&source);
    assert!(said.contains(&"arrival_s might be `timestamp` too: `--column arrival_s=timestamp` takes that".to_owned()));
    assert!(said.contains(&"prompt might be `caption` too: `--column prompt=caption` takes that".to_owned()));
    assert!(said.iter().any(|note| note.starts_with("request ids left out, since some repeat")));
}

#[test]
fn damaged_logs_never_panic() {
    use rand::RngExt;
    let json = "{\"ts\": 1700158623, \"prompt\": \"a\", \"turns\": [{\"n\": 2}], \"size\": [5, 5]}\n[1]\n{\"a\"";
    let good = [LOG, json, "[{\"ts\": 1, \"text\": \"b\"},\n{\"ts\": 2, \"text\": \"c\"}]", "ts\tprompt\n1\t\"a\"\n"];
    for seed in 0..800 {
        let mut generator = crate::draw::stream(seed, crate::draw::Purpose::Test, 7);
        let mut bytes = good[seed as usize % good.len()].as_bytes().to_vec();
        for _ in 0..generator.random_range(1..6) {
            let at = generator.random_range(0..bytes.len());
            bytes[at] = if generator.random() {
                generator.random()
            } else {
                b"\",\n\t;{}[]-.0e:"[generator.random_range(0..14)]
            };
        }
        bytes.truncate(generator.random_range(0..=bytes.len()));
        let _ = import("l", &bytes, Some(Format::Log), Options::default());
        let _ = import("l.csv", &bytes, None, Options::default());
    }
}
