//! `requests.csv`: every column with bad values, rows out of order, cut off or twice, and files that are
//! not CSV at all. What is only unusual must work.

use super::folder::{REQUESTS, all, simulate, spoiled};

const HEADER: &str = "arrival_s,request_id,prompt,tenant,deadline_s\n";
const SECONDS: &str = "expected seconds from 0 to ten years (315360000)";
const NO_COLUMN: &str = "expected a column arrival_s, and optionally request_id, prompt, tenant, deadline_s; *";

fn refused(content: impl AsRef<[u8]>, message: &str) -> Result<(), String> {
    spoiled("requests.csv", content).refusal(&simulate("scenario.toml", &[]), &format!("requests.csv{message}"))
}

#[test]
fn times() {
    let bad = ["", "x", "NaN", "nan", "inf", "-inf", "-1", "1e300", "315360001", "0x10", "1_0", "1e", "\u{663}"];
    all(bad.into_iter().map(|value| {
        refused(format!("{HEADER}{value},a,p,t,\n"), &format!(":2: arrival_s = \"{value}\": {SECONDS}; *"))
    }));
    all(bad.into_iter().skip(1).map(|value| {
        refused(format!("{HEADER}0,a,p,t,\n1,b,p,t,{value}\n"), &format!(":3: deadline_s = \"{value}\": {SECONDS}"))
    }));
}

#[test]
fn rows() {
    let cases = [
        (
            "2,a,p,t,\n1,b,p,t,\n",
            ":3: arrival_s = \"1\": the request above arrives later; requests are in order of arrival: `modm trace import --sort` sorts them",
        ),
        (
            "1,a,p,t,\n1,b,p,t,\n2,a,p,t,\n",
            ": request_id = a: row 3 (from 1, below the header) has row 1's id; ids are unique",
        ),
        ("1,,p,t,\n", ":2: request_id = \"\": expected a unique text in every row"),
        ("1,a\n", ":2: fields = 2: expected 5, as in the first line; is the row cut off?"),
        ("1,a,p,t,1,9\n", ":2: fields = 6: expected 5, as in the first line; is the row cut off?"),
        ("1,a,p,t,\n2,b,\"p,t,\n3,c,p,t,\n", ":3: fields = 3: expected 5, as in the first line; is the row cut off?"),
        ("1,a,p,t,\n\n\n2,b,\"p\nq\",t,x\n", ":5: deadline_s = \"x\": expected seconds *"),
        ("", ": expected at least one request below the header"),
    ];
    all(cases.map(|(rows, message)| refused(format!("{HEADER}{rows}"), message)));
    let short = spoiled("requests.csv", format!("{HEADER}1,a,p,t,\n"));
    let message = "prompts.npy: rows = 3: expected 1, one for each request of requests.csv";
    all([short.refusal(&simulate("scenario.toml", &[]), message)]);
}

#[test]
fn wishes() {
    let row = "(from 1, below the header)";
    let cases = [
        ("steps", "0", "expected a whole number from 1 to 100000, or nothing for the usual one"),
        ("steps", "x", "expected a whole number from 1 to 100000, *"),
        ("images", "65", "expected a whole number from 1 to 64, *"),
        ("images", "-1", "expected a whole number from 1 to 64, *"),
        ("guidance", "nan", "expected a number from 0 to 1000, or nothing for the usual one"),
    ];
    all(cases.map(|(column, value, message)| {
        refused(
            format!("arrival_s,prompt,{column}\n0,a,\n1,b,{value}\n2,c,\n"),
            &format!(": {column} = \"{value}\": row 2 {row}: {message}"),
        )
    }));
    let sides = |row: &str| format!("arrival_s,prompt,width,height\n0,a,,\n1,b,{row}\n2,c,64,32\n");
    all([
        refused(sides("64,"), &format!(": height = \"\": row 2 {row}: expected both width and height, or neither")),
        refused(sides(",64"), &format!(": width = \"\": row 2 {row}: expected both width and height, or neither")),
        refused(sides("64,65536"), &format!(": height = \"65536\": row 2 {row}: expected a whole number *")),
    ]);
}

#[test]
fn headers() {
    let missing = |found: &str| format!(":1: header = {found}: {NO_COLUMN}");
    all([
        refused("", &missing("")),
        refused("\n\n\n", &missing("")),
        refused("arrival,prompt\n1,p\n", &missing("arrival,prompt")),
        refused("1,p\n2,q\n", &missing("1,p")),
        refused("arrival_s;prompt\n1;p\n", &missing("arrival_s;prompt")),
        refused("arrival_s\tprompt\n1\tp\n", &missing("arrival_s\\tprompt")),
        refused("arrival_s,arrival_s\n1,1\n", ":1: column = arrival_s: expected each column once"),
        refused("arrival_s,prompt,prompt\n1,p,p\n", ":1: column = prompt: expected each column once"),
        refused(b"arrival_s,\xff\n1,1\n", ":1: column name = \"\u{fffd}\": expected UTF-8 text"),
    ]);
}

#[test]
fn bytes() {
    let with = |bytes: &[u8]| [HEADER.as_bytes(), bytes].concat();
    let utf16: Vec<u8> = REQUESTS.encode_utf16().flat_map(u16::to_le_bytes).collect();
    all([
        refused(with(b"\xff,a,p,t,\n"), &format!(":2: arrival_s = \"\u{fffd}\": {SECONDS}; *")),
        refused(with(b"1,\xff,p,t,\n"), ":2: request_id = \"\u{fffd}\": expected UTF-8 text"),
        refused(with(b"1,a,\xff,t,\n"), ":2: prompt = \"\u{fffd}\": expected UTF-8 text"),
        refused(with(b"1,a,p,\xff,\n"), ":2: tenant = \"\u{fffd}\": expected UTF-8 text"),
        refused((0..=255).collect::<Vec<u8>>(), ":1: header = *"),
        refused([b"\xff\xfe".as_slice(), &utf16].concat(), ":1: column name = *"),
    ]);
    // Cut anywhere, it is refused or has fewer rows than there are embeddings; at the end of a row, too.
    all((0..REQUESTS.len() - 1).step_by(3).filter(|&end| !REQUESTS[..end].ends_with("50")).map(|end| {
        let folder = spoiled("requests.csv", &REQUESTS[..end]);
        let code = folder.run(&simulate("scenario.toml", &[])).code;
        if code == 2 { Ok(()) } else { Err(format!("cut at {end}: code {code}")) }
    }));
}

#[test]
fn unusual_files_work() {
    let cases = [
        REQUESTS.replace('\n', "\r\n"),
        format!("\u{feff}{REQUESTS}"),
        format!("\u{feff}{}", REQUESTS.replace('\n', "\r\n")),
        REQUESTS.replace("\nb", "\n\n\nb"),
        REQUESTS.trim_end().to_owned(),
        REQUESTS.replace("a,0.5", "a, +0.5 "),
        REQUESTS.replace("a,0.5", "a,-0"),
        REQUESTS.replace("red cat", "red\0cat"),
        REQUESTS.replace("tenant", "colour"),
    ];
    all(cases.map(|content| spoiled("requests.csv", content).success(&simulate("scenario.toml", &[]))));
}
