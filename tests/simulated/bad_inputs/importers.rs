//! Sources of `trace import`: each format with bad values, missing columns and cut files; flags that ask
//! for what is not there. A refused import leaves no folder.

use super::folder::{Folder, all, embeddings};

const ALIBABA: &str =
    "gmt_create,predict_type,predict_status,exec_time_seconds,groupId,num_images_per_prompt,num_inference_steps\n";
const OURS: &str = "arrival_s,prompt\n1,a\n2,b\n";

fn import(files: &[(&str, &[u8])], flags: &[&str], message: &str) -> Result<(), String> {
    let folder = Folder::new();
    for (name, content) in files {
        folder.write(name, content);
    }
    folder.refusal(&[&["trace", "import", "--out", "results"], flags].concat(), message)
}

fn arrivals(name: &str, content: impl AsRef<[u8]>, message: &str) -> Result<(), String> {
    import(&[(name, content.as_ref())], &["--arrivals", name], &format!("{name}{message}"))
}

#[test]
fn formats() {
    let alibaba = |row: &str, message: &str| arrivals("a.csv", format!("{ALIBABA}{row}\n"), message);
    let mjhq = "expected MJHQ-30k's {\"id\": {\"category\": \"...\", \"prompt\": \"...\"}, ...}";
    all([
        arrivals("x.txt", "", ": expected at least one row that can be used"),
        arrivals("x.txt", "\n\n", ": expected at least one row that can be used"),
        arrivals("x.txt", b"a\n\xff\n", ":2: prompt = \u{fffd}: expected UTF-8 text"),
        arrivals("x.txt", "a cat\n", ": has no arrival times: name a file that has them with --arrivals"),
        arrivals("x.bin", b"\x00\x01", ":1: first line = \\u{0}\\u{1}: the format is not recognised: say which with *"),
        arrivals(
            "x.csv",
            "x,y\n1,2\n",
            ": no column looks like the time of arrival or the prompt: say which with --column arrival_s=NAME *",
        ),
        arrivals("x.tsv", "Prompt\tCategory\na\tb\n", ": no column looks like the time of arrival: say which *"),
        arrivals("x.tsv", "Prompt\tCategory\tChallenge\na\tb\n", ":2: fields = 2: expected 3, as in the first line; *"),
        arrivals(
            "x.json",
            "{\"a\":{\"category\":\"x\",\"prompt\":\"y\"",
            &format!(":1: EOF while parsing an object; {mjhq}"),
        ),
        arrivals(
            "x.json",
            "{\"a\":{\"category\":\"x\",\"prompt\":5}}",
            &format!(":1: invalid type: integer 5, expected a string; {mjhq}"),
        ),
        arrivals("x.json", "{\"a\":{\n\"category\":\"x\"}}", &format!(":2: missing field prompt; {mjhq}")),
        arrivals("x.json", "{}", ": no column looks like the time of arrival or the prompt: *"),
        arrivals("x.json", "{\"a\":".repeat(5000), ":1: EOF *"),
        arrivals(
            "x.csv",
            "TIMESTAMP,ContextTokens\nsoon,1\n",
            ":2: TIMESTAMP = \"soon\": expected a time from 1970 to 2199 *",
        ),
        arrivals("x.csv", "TIMESTAMP,ContextTokens\n", ": expected at least one row that can be used"),
        arrivals(
            "x.csv",
            "TIMESTAMP,ContextTokens\n1990-01-01 00:00:00,1\n2020-01-01 00:00:00,1\n",
            ": span in seconds = 946684800: expected at most ten years from first to last",
        ),
        arrivals("x.txt", "1,2\n-3,4\n", ":2: arrival = \"-3\": expected milliseconds from 0 to ten years"),
        arrivals("x.txt", "1,2\nnan,4\n", ":2: arrival = \"nan\": expected milliseconds from 0 to ten years"),
        arrivals("x.txt", "1,2\n1e300,4\n", ":2: arrival = \"1e300\": expected milliseconds from 0 to ten years"),
        arrivals("x.txt", "1,2\n3,4.5\n", ":2: prompt number = \"4.5\": expected a whole number from 0"),
        arrivals("x.txt", "1,2\n3,4294967296\n", ":2: prompt number = \"4294967296\": expected a whole number from 0"),
        alibaba("soon,TXT_2_IMG,SUCCEED,1,G,1,1", ":2: gmt_create = \"soon\": expected a time *"),
        alibaba(
            "2024-11-15 16:57:50,TXT,SUCCEED,1,G,1,1",
            ":2: predict_type = \"TXT\": expected TXT_2_IMG, IMG_2_IMG or INPAINTING",
        ),
        alibaba(
            "2024-11-15 16:57:50,TXT_2_IMG,OK,1,G,1,1",
            ":2: predict_status = \"OK\": expected SUCCEED, FAILED or PENDING",
        ),
        alibaba(
            "2024-11-15 16:57:50,TXT_2_IMG,SUCCEED,-1,G,1,1",
            ":2: exec_time_seconds = \"-1\": expected a number from 0 to 1e9, or nothing",
        ),
        alibaba("2024-11-15 16:57:50,TXT_2_IMG,FAILED,1,G,1,1", ": expected at least one row that can be used"),
        arrivals(
            "a.csv",
            "gmt_create,predict_type\n1,2\n",
            ":1: header = gmt_create,predict_type: expected a column predict_status: *",
        ),
        arrivals("x.csv", "arrival_s\n2\n1\n", ":3: arrival_s = \"1\": the request above arrives later; *"),
        arrivals("x.csv", "arrival_s\nnan\n", ":2: arrival_s = \"nan\": expected seconds *"),
    ]);
}

#[test]
#[cfg(feature = "parquet")]
fn parquet() {
    let garbage = [b"PAR1".as_slice(), &[0xff; 200], b"PAR1"].concat();
    let mut damaged = b"PAR1".to_vec();
    damaged.extend((0..400_u32).map(|i| (i * i % 251) as u8));
    damaged.extend(300_u32.to_le_bytes());
    damaged.extend(b"PAR1");
    let cases = [b"PAR1".to_vec(), garbage, damaged];
    all([arrivals("x.parquet", "", ": is empty: expected a row for each request")]);
    all(cases.iter().map(|content| arrivals("x.parquet", content, ": cannot be read as parquet: *")));
}

#[test]
fn flags() {
    let ours = |flags: &[&str], message: &str| {
        let e = embeddings(2, 4);
        let wide = embeddings(2, 5);
        let files: &[(&str, &[u8])] = &[
            ("o.csv", OURS.as_bytes()),
            ("bad.csv", b"arrival_s\nx\n"),
            ("none.csv", b"arrival_s\n1\n"),
            ("p.txt", b"a\nb\n"),
            ("d.txt", b"1,9\n2,8\n"),
            ("e.npy", &e),
            ("wide.npy", &wide),
        ];
        import(files, flags, message)
    };
    let prompts = |flags: &[&str], message: &str| ours(&[&["--prompts", "o.csv"], flags].concat(), message);
    all([
        ours(&["--prompts", "nix.txt"], "nix.txt: cannot be read: No such file *"),
        ours(&["--prompts", "."], ".: is not a regular file"),
        ours(&["--prompts", "p.txt"], "p.txt: has no arrival times: *"),
        ours(&["--prompts", "p.txt", "--arrivals", "d.txt"], "d.txt: no request is left of 2"),
        ours(&["--prompts", "p.txt", "--prompts-format", "mjhq", "--arrivals", "d.txt"], "p.txt:1: expected value; *"),
        prompts(&["--from", "100"], "o.csv: no request is left of 2"),
        prompts(
            &["--time-scale", "1e9"],
            "o.csv: --time-scale = 1000000000: expected a pace at which the trace lasts at most ten years",
        ),
        prompts(
            &["--first", "1", "--rate-per-min", "5"],
            "o.csv: --rate-per-min: all requests arrive at one instant: there is no rate to scale",
        ),
        prompts(&["--merge", "nix.csv"], "nix.csv: cannot be read: *"),
        prompts(&["--merge", "bad.csv"], "bad.csv:2: arrival_s = \"x\": expected seconds *"),
        prompts(
            &["--merge", "none.csv"],
            "none.csv: --merge: expected prompts in all traces or in none; o.csv differs",
        ),
        prompts(
            &["--prompt-embeddings", "prompts.npy"],
            "prompts.npy: rows = 3: expected 2, one for each row used of the prompts' file",
        ),
        prompts(&["--prompt-embeddings", "o.csv"], "o.csv: has no readable header; *"),
        prompts(&["--prompt-embeddings", "e.npy", "--image-embeddings", "prompts.npy"], "prompts.npy: rows = 3: *"),
        prompts(
            &["--prompt-embeddings", "e.npy", "--image-embeddings", "wide.npy"],
            "wide.npy: dimension = 5: expected 4, as in e.npy",
        ),
    ]);
}

#[test]
fn flags_out_of_range() {
    let folder = Folder::new();
    let usage = |flag: &str, value: &str, part: &str| {
        folder.usage_error(&["trace", "import", "--prompts", "requests.csv", "--out", "results", flag, value], part)
    };
    all([
        usage("--from", "nan", "expected seconds from 0 to ten years"),
        usage("--until", "x", "expected seconds from 0 to ten years"),
        usage("--first", "0", "0 is not in 1..="),
        usage("--rate-per-min", "0", "expected a number from 1e-9 to 1e9"),
        usage("--rate-per-min", "nan", "expected a number from 1e-9 to 1e9"),
        usage("--time-scale", "inf", "expected a number from 1e-9 to 1e9"),
        usage("--prompts-format", "x", "possible values: modm, list"),
        usage("--keep", "x", "possible values: unfinished"),
        usage("--shuffle", "x", "invalid value 'x' for '--shuffle"),
        folder.usage_error(&["trace", "import", "--out", "results"], "<LOG>"),
    ]);
}
