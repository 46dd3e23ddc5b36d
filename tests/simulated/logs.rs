//! Logs as services write them, through `modm trace import LOG`: every kind becomes the same trace, or is refused with
//! the way out and nothing written.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use modm::trace::{TraceFiles, npy, read};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use crate::program::Folder;

/// Trace that every log of [`SAME`] becomes.
const TRACE: &str =
    "arrival_s,prompt,tenant\n0.000000000,a cat,u1\n1.500000000,\"a dog, red\",u2\n4.000000000,an owl,u1\n";

const CSV: &str = "timestamp,user_id,prompt\n2026-03-02T08:00:00+02:00,u1,a cat\n2026-03-02T08:00:01.500+02:00,u2,\"a dog, \
                   red\"\n2026-03-02T08:00:04+02:00,u1,an owl\n";

/// Logs: name, content, flags, and a phrase of what is printed.
const SAME: &[(&str, &str, &[&str], &str)] = &[
    ("service.csv", CSV, &[], "arrival_s from `timestamp` (dates), prompt from `prompt`, tenant from `user_id`"),
    (
        "excel.csv",
        "\u{feff}time;user;prompt\r\n0,0;u1;a cat\r\n1,5;u2;a dog, red\r\n4,0;u1;an owl\r\n",
        &[],
        "CSV with semicolons",
    ),
    ("tabs.tsv", "ts\ttenant\ttext\n0\tu1\ta cat\n1.5\tu2\ta dog, red\n4\tu1\tan owl\n", &[], "prompt from `text`"),
    ("bars.txt", "ts|uid|prompt\n0|u1|a cat\n1.5|u2|a dog, red\n4|u1|an owl\n", &[], "a table with bars"),
    (
        "quoted.csv",
        "\"arrival_s\",\"prompt\",\"tenant\"\n\"0\",\"a cat\",\"u1\"\n\"1.5\",\"a dog, red\",\"u2\"\n\"4\",\"an owl\",\"u1\"\n",
        &[],
        "format log, guessed from the file's name and content",
    ),
    (
        "unsorted.csv",
        "arrival_s,prompt,tenant\n4,an owl,u1\n0,a cat,u1\n1.5,\"a dog, red\",u2\n",
        &[],
        "1 rows arrive before the row above them: sorted",
    ),
    (
        "epoch.csv",
        "arrival_s,prompt,user\n1700158623.98,a cat,u1\n1700158625.48,\"a dog, red\",u2\n1700158627.98,an owl,u1\n",
        &[],
        "arrival_s from `arrival_s` (seconds since 1970)",
    ),
    (
        "milliseconds.jsonl",
        "{\"created\": 1700158623980, \"prompt\": \"a cat\", \"user\": {\"id\": \"u1\"}}\n\
         {\"created\": 1700158625480, \"prompt\": \"a dog, red\", \"user\": {\"id\": \"u2\"}}\n\
         {\"created\": 1700158627980, \"prompt\": \"an owl\", \"user\": {\"id\": \"u1\"}}\n",
        &[],
        "(milliseconds since 1970, by their magnitude), prompt from `prompt`, tenant from `user.id`",
    ),
    (
        "microseconds.log",
        "{\"t\": 1700158623980000, \"prompt\": \"a cat\", \"user\": \"u1\"}\n\
         {\"t\": 1700158625480000, \"prompt\": \"a dog, red\", \"user\": \"u2\"}\n\
         {\"t\": 1700158627980000, \"prompt\": \"an owl\", \"user\": \"u1\"}\n",
        &[],
        "microseconds since 1970",
    ),
    (
        "nanoseconds.csv",
        "ts,prompt,user\n1700158623980000000,a cat,u1\n1700158625480000000,\"a dog, red\",u2\n1700158627980000000,an owl,u1\n",
        &[],
        "nanoseconds since 1970",
    ),
    (
        "list.json",
        "[{\"at\": \"2026-03-02 08:00:00\", \"what\": \"a cat\", \"user\": \"u1\"},\n {\"at\": \"2026-03-02 08:00:01.5\", \"what\": \
         \"a dog, red\", \"user\": \"u2\"},\n {\"at\": \"2026-03-02 08:00:04\", \"what\": \"an owl\", \"user\": \"u1\"}]",
        &["--column", "arrival_s=at", "--column", "prompt=what"],
        "3 times without an offset from UTC: UTC is assumed",
    ),
    (
        "statuses.csv",
        "ts,prompt,user,status\n0,a cat,u1,200\n1,x,u1,500\n1.5,\"a dog, red\",u2,200\n2,,u1,200\n3,x,u1,pending\n4,an owl,u1,204\n",
        &[],
        "1 rows left out with status 500 (line 3)",
    ),
    (
        "aiperf.jsonl",
        "{\"timestamp\": 0, \"session_id\": \"u1\", \"text_input\": \"a cat\"}\n\
         {\"timestamp\": 1500, \"session_id\": \"u2\", \"text_input\": \"a dog, red\"}\n\
         {\"timestamp\": 4000, \"session_id\": \"u1\", \"text_input\": \"an owl\"}\n",
        &[],
        "arrival_s from `timestamp` (milliseconds from the start)",
    ),
    (
        "turns.jsonl",
        "{\"session_id\": \"u1\", \"turns\": [{\"timestamp\": 0, \"text\": \"a cat\"}, {\"timestamp\": 4000, \"text\": \"an \
         owl\"}]}\n{\"session_id\": \"u2\", \"turns\": [{\"timestamp\": 1500, \"text\": \"a dog, red\"}]}\n",
        &[],
        "milliseconds as in Mooncake's traces and AIPerf's schedules",
    ),
];

fn imports(folder: &Folder, name: &str, flags: &[&str], phrase: &str) {
    let (code, out, err) = folder.run(&[&["trace", "import", name, "--out", "out", "--force"], flags].concat()).parts();
    assert_eq!((code, err.as_str()), (0, ""), "{name}: {out}");
    assert!(out.contains(phrase), "{name}: {out}");
    assert_eq!(folder.read("out/requests.csv"), TRACE, "{name}: {out}");
}

#[test]
fn every_kind_becomes_the_same_trace() {
    let folder = Folder::new(&[]);
    for (name, content, flags, phrase) in SAME {
        folder.write(name, content);
        imports(&folder, name, flags, phrase);
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(CSV.as_bytes()).unwrap();
    folder.write("log.csv.gz", encoder.finish().unwrap());
    imports(&folder, "log.csv.gz", &[], "unpacked from gzip");
    folder.write("log.csv.zst", compress_to_vec(CSV.as_bytes(), CompressionLevel::Fastest));
    imports(&folder, "log.csv.zst", &[], "unpacked from zstd");
    let utf_16: Vec<u8> = format!("\u{feff}{CSV}").encode_utf16().flat_map(u16::to_le_bytes).collect();
    folder.write("log.csv", utf_16);
    imports(&folder, "log.csv", &[], "turned into UTF-8 from UTF-16");
    let record = folder.json("out/trace.json");
    assert_eq!((&record["has_prompts"], &record["tenants"], &record["requests"]), (&true.into(), &2.into(), &3.into()));
}

#[test]
fn logs_without_prompts_take_those_of_a_list() {
    let folder = Folder::new(&[("p.txt", "a cat\na dog, red\nan owl\n")]);
    for (name, content) in [
        (
            "burstgpt.csv",
            "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n0,ChatGPT,472,18,490,Conversation \
             log\n1.5,ChatGPT,1087,230,1317,API log\n4,GPT-4,417,276,693,Conversation log\n",
        ),
        (
            "mooncake.jsonl",
            "{\"timestamp\": 0, \"input_length\": 6755, \"output_length\": 500, \"hash_ids\": [0, 1]}\n\
             {\"timestamp\": 1500, \"input_length\": 7319, \"output_length\": 490, \"hash_ids\": [0, 14]}\n\
             {\"timestamp\": 4000, \"input_length\": 7234, \"output_length\": 794, \"hash_ids\": [0, 28]}\n",
        ),
        ("servegen.csv", "request_id,timestamp,input_tokens,output_tokens\n0,0.0,12,7\n1,1.5,15,9\n2,4.0,8,5\n"),
        (
            "azure2024.csv",
            "TIMESTAMP,ContextTokens,GeneratedTokens\n2024-05-10 00:00:00.009930+00:00,2162,5\n2024-05-10 \
             00:00:01.509930+00:00,2399,6\n2024-05-10 00:00:04.009930+00:00,76,15\n",
        ),
        (
            "quoted.csv",
            "ContextTokens,\"TIMESTAMP\"\n1,2024-05-10 00:00:00\n1,2024-05-10 00:00:01.5\n1,2024-05-10 00:00:04\n",
        ),
    ] {
        folder.write(name, content);
        let out = folder.works(&["trace", "import", name, "--out", "out", "--force"]).out;
        assert!(out.contains("there are no prompts: ") && out.contains("`--prompts FILE` adds them"), "{name}: {out}");
        folder.works(&["trace", "import", name, "--prompts", "p.txt", "--out", "out", "--force"]);
        let requests = folder.read("out/requests.csv");
        let rows: Vec<&str> = requests.lines().collect();
        let end = if name == "servegen.csv" { 2 } else { 0 };
        assert!(
            rows[1].ends_with("0.000000000,a cat") && rows[3].ends_with("4.000000000,an owl"),
            "{name}: {requests}"
        );
        assert_eq!(
            rows[0].len(),
            "arrival_s,prompt".len() + if end > 0 { "request_id,".len() } else { 0 },
            "{requests}"
        );
    }
    // Prompts of a table with the times of another file.
    folder.write("p.tsv", "seed\tPrompt\n1\ta cat\n2\ta dog, red\n3\tan owl\n");
    folder.works(&["trace", "import", "p.tsv", "--arrivals", "burstgpt.csv", "--out", "out", "--force"]);
    assert_eq!(folder.read("out/requests.csv").lines().last(), Some("4.000000000,an owl"));
}

#[test]
fn refusals_name_the_way_out_and_write_nothing() {
    let twice = "ts,prompt\n1,a\n";
    let cases: &[(&str, &str, &[&str], &str)] = &[
        ("empty.csv", "", &[], "empty.csv: is empty: expected a row for each request"),
        ("header.csv", "timestamp,prompt\n", &[], "header.csv: expected at least one row below the header"),
        ("bare.csv", "2026-03-02T08:00:00Z,a cat\n", &[], "has no header: put a line with the names of the columns"),
        ("rates.csv", "0,1.3,8.6,Weibull,0.4,0.4\n600,0,0,,0,0\n", &[], "generate requests with ServeGen"),
        ("odd.csv", "when,what\n5,a\n", &[], "say which with --column arrival_s=NAME and --column prompt=NAME"),
        (
            "untimed.jsonl",
            "{\"prompt\": \"a\"}\n",
            &[],
            "no column looks like the time of arrival: say which with --column",
        ),
        ("p.txt", "a cat\n", &[], "p.txt: has no arrival times: name a file that has them with --arrivals"),
        ("a.csv", twice, &["--column", "prompt=text"], "is no column of the log: expected one of ts, prompt"),
        ("a.csv", twice, &["--column", "prompt=promt"], "is no column of the log (is prompt meant?)"),
        ("a.csv", twice, &["--column", "promt=prompt"], "promt is no column of a trace (is prompt meant?)"),
        ("a.csv", twice, &["--column", "tenant"], "expected OURS=THEIRS, e.g. prompt=text"),
        ("a.csv", twice, &["--time-unit", "s", "--log-format", "modm"], "the columns of modm are fixed: --column and"),
        ("a.csv", twice, &["--time-unit", "h"], "possible values: s, ms, us, ns"),
        (
            "failed.csv",
            "ts,prompt,status\n1,a,failed\n",
            &[],
            "no row can be used of 1: 1 with status failed (line 2); ",
        ),
        ("numbers.jsonl", "{\"ts\": 1, \"prompt\": 5}\n", &["--column", "prompt=prompt"], "which has an integer (5)"),
        ("book.csv", "PK\u{3}\u{4}....", &[], "a zip archive or a workbook of Excel, which is not read"),
        ("cut.json", "[{\"ts\": 1, \"prompt\": \"a\"},\n", &[], "cannot be read as JSON: EOF"),
        ("a.csv", twice, &["--prompts-by-tenant"], "--prompts-by-tenant: deals the prompts of another file"),
        (
            "a.csv",
            twice,
            &["--prompts", "b.csv", "--prompts-format", "list"],
            "b.csv: is a table with the columns ts, prompt",
        ),
        ("a.csv", twice, &["--prompts", "c.jsonl", "--prompts-format", "list"], "c.jsonl: is JSON, and no list"),
    ];
    let folder = Folder::new(&[("b.csv", twice), ("c.jsonl", "{\"prompt\": \"a\"}\n")]);
    for (name, content, flags, message) in cases {
        folder.write(name, content);
        let (code, out, err) = folder.run(&[&["trace", "import", name, "--out", "o"], *flags].concat()).parts();
        assert_eq!((code, out.as_str()), (2, ""), "{name} {flags:?}: {err}");
        assert!(err.contains(message), "{name} {flags:?}: {err}");
        assert!(!folder.path("o").exists(), "{name}");
    }
    let (code, _, err) = folder.run(&["trace", "inspect", "b.csv"]).parts();
    assert!(code == 2 && err.contains("`modm trace import LOG`"), "{err}");
}

#[test]
fn embeddings_of_a_log_follow_the_rows_that_are_used() {
    let folder = Folder::new(&[("l.csv", "ts,prompt\n3,c\n1,\n2,b\n")]);
    let halves = [0x4200_u16, 0x4400, 0x3c00, 0, 0, 0x4000]; // 3, 4; 1, 0; 0, 2
    let text = "{'descr': '<f2', 'fortran_order': False, 'shape': (3, 2), }\n";
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((text.len() as u16).to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes.extend(halves.into_iter().flat_map(u16::to_le_bytes));
    folder.write("e.npy", bytes);
    let import = ["trace", "import", "l.csv", "--prompt-embeddings", "e.npy", "--out", "out", "--force"];
    folder.works(&import);
    let read = read(&TraceFiles::find(&folder.path("out"))).unwrap();
    assert_eq!((read.prompt(0), read.prompt(1)), (Some("b"), Some("c")));
    let rows = read.prompt_embeddings().unwrap();
    assert_eq!([rows.row(0), rows.row(1)], [[0.0, 2.0], [3.0, 4.0]]);
    let mut wrong = Vec::new();
    npy::write(&mut wrong, 4, 1, [1.0; 4]).unwrap();
    folder.write("e.npy", wrong);
    let (code, _, err) = folder.run(&import).parts();
    let message =
        "e.npy: rows = 4: expected 2, one for each row used of the prompts' file, or 3, one for each row of the file";
    assert!(code == 2 && err.contains(message), "{err}");
}

#[cfg(feature = "parquet")]
mod parquet_files {
    use std::sync::Arc;

    use modm::trace::{TraceFiles, read};
    use parquet::basic::{Compression, GzipLevel, ZstdLevel};
    use parquet::data_type::{ByteArray, ByteArrayType, FloatType, Int32Type, Int64Type};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    use super::{TRACE, imports};
    use crate::program::Folder;

    /// Makes a file of the requests of [`TRACE`] in which times have this type and unit.
    fn sample(time: &str, unit: i64, compression: Compression) -> Vec<u8> {
        let schema = format!(
            "message log {{ required int64 created_at{time}; required group request {{ optional binary prompt (STRING); \
             required int32 user; }} required group embedding (LIST) {{ repeated group list {{ required float element; }} }} }}"
        );
        let schema = Arc::new(parse_message_type(&schema).unwrap());
        let properties = WriterProperties::builder().set_compression(compression).build();
        let mut bytes = Vec::new();
        let mut writer = SerializedFileWriter::new(&mut bytes, schema, Arc::new(properties)).unwrap();
        let mut group = writer.next_row_group().unwrap();
        let times = [0, 1500, 1600, 4000].map(|milliseconds| (1_700_158_623_980 + milliseconds) * unit);
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<Int64Type>().write_batch(&times, None, None).unwrap();
        column.close().unwrap();
        let prompts: Vec<ByteArray> = ["a cat", "a dog, red", "an owl"].map(ByteArray::from).into();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&prompts, Some(&[1, 1, 0, 1]), None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<Int32Type>().write_batch(&[1, 2, 1, 1], None, None).unwrap();
        column.close().unwrap();
        let numbers: Vec<f32> = (0..8).map(|number| 1.0 + number as f32).collect();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<FloatType>().write_batch(&numbers, Some(&[1; 8]), Some(&[0, 1].repeat(4))).unwrap();
        column.close().unwrap();
        group.close().unwrap();
        writer.close().unwrap();
        bytes
    }

    #[test]
    fn types_are_those_of_the_file() {
        let folder = Folder::new(&[]);
        let trace = TRACE.replace(",u1", ",1").replace(",u2", ",2");
        for (time, unit, compression, phrase) in [
            (" (TIMESTAMP(MILLIS,true))", 1, Compression::SNAPPY, "arrival_s from `created_at` (dates)"),
            (" (TIMESTAMP(NANOS,true))", 1_000_000, Compression::UNCOMPRESSED, "tenant from `request.user`"),
            (
                " (TIMESTAMP(MICROS,false))",
                1000,
                Compression::GZIP(GzipLevel::default()),
                "rows left out without a prompt (row 3)",
            ),
            ("", 1, Compression::ZSTD(ZstdLevel::default()), "milliseconds since 1970, by their magnitude"),
        ] {
            folder.write("l.parquet", sample(time, unit, compression));
            let import = [
                "trace",
                "import",
                "l.parquet",
                "--prompt-embeddings",
                "l.parquet:embedding",
                "--out",
                "out",
                "--force",
            ];
            let out = folder.works(&import).out;
            assert!(out.contains(phrase) && out.contains("columns not used: embedding"), "{out}");
            assert_eq!(folder.read("out/requests.csv"), trace);
            let read = read(&TraceFiles::find(&folder.path("out"))).unwrap();
            assert_eq!(read.prompt_embeddings().unwrap().row(2), [7.0, 8.0], "the row of a request left out is too");
        }
        folder.write("l.parquet", sample("", 1, Compression::SNAPPY));
        for (flags, message) in [
            (
                ["--prompt-embeddings", "l.parquet:x"],
                "column = x: expected one of the file's columns: created_at, request",
            ),
            (["--prompt-embeddings", "l.parquet:created_at"], "row 1 (from 1): expected a list of numbers"),
            (["--column", "prompt=created_at"], "expected text in column created_at, which has an integer"),
        ] {
            let (code, _, err) =
                folder.run(&[&["trace", "import", "l.parquet", "--out", "o"], &flags[..]].concat()).parts();
            assert!(code == 2 && err.contains(message), "{err}");
        }
        // In the metadata, the codec's number follows the name of the column: Snappy's is 1, Brotli's 4, and Thrift
        // writes twice that.
        let mut packed = sample("", 1, Compression::SNAPPY);
        let name = b"created_at\x15\x02";
        let at = packed.windows(name.len()).position(|window| window == name).unwrap() + name.len() - 1;
        packed[at] = 8;
        folder.write("l.parquet", packed);
        let (code, _, err) = folder.run(&["trace", "import", "l.parquet", "--out", "o"]).parts();
        let refusal = "compression = BROTLI: expected zstd, snappy, gzip, lz4 or no compression: write";
        assert!(code == 2 && err.contains(refusal), "{err}");
        folder.write("s.csv", super::CSV);
        imports(&folder, "s.csv", &[], "CSV");
    }
}

#[cfg(not(feature = "parquet"))]
#[test]
fn parquet_needs_its_feature() {
    let folder = Folder::new(&[("l.parquet", "PAR1....PAR1")]);
    let (code, _, err) = folder.run(&["trace", "import", "l.parquet", "--out", "o"]).parts();
    assert!(code == 2 && err.contains("build with `--features parquet`"), "{err}");
}
