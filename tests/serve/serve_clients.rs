//! Requests as other people's clients send them: keys that change nothing, names of models, forms of pictures, streams,
//! pictures that are sent to be refined, pages of other origins, and signed addresses. The packages themselves are run
//! by `scripts/check_clients`.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use modm::live::picture::Picture;
use modm::live::settings::ImageFormat;
use serde_json::{Value, json};

use crate::program::{modm, root, within};
use crate::served::{PROMPT, SHORT, Served, key, picture};

/// Settings with which clients work that are made for OpenAI's models and sizes.
const FOR_ALL: [&str; 6] = [
    "--set",
    "serve.aliases={ dall-e-2 = \"auto\", dall-e-3 = \"auto\", gpt-image-1 = \"shapes-large\" }",
    "--set",
    "serve.other_sizes=\"usual\"",
    "--cors-origin",
    "https://app.example.org",
];

/// Answer of a server: status, headers and body.
type Answered = (u16, ureq::http::HeaderMap, Vec<u8>);

/// Sends a request with further headers.
fn send(server: &Served, method: &str, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Answered {
    let request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", server.address));
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let (parts, mut body) = server.agent.run(request.body(body).unwrap()).unwrap().into_parts();
    (parts.status.as_u16(), parts.headers, body.read_to_vec().unwrap())
}

fn parsed(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap_or_else(|_| panic!("{:?}", String::from_utf8_lossy(body)))
}

/// Returns the value of a header; empty if it is not there.
fn header(headers: &ureq::http::HeaderMap, name: &str) -> String {
    headers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
}

/// Sends a form with files, as browsers and clients write it.
fn form(server: &Served, headers: &[(&str, &str)], fields: &[(&str, &str)], files: &[(&str, &[u8])]) -> (u16, Value) {
    let (status, _, body) = sent_form(server, headers, fields, files);
    (status, parsed(&body))
}

fn sent_form(server: &Served, headers: &[(&str, &str)], fields: &[(&str, &str)], files: &[(&str, &[u8])]) -> Answered {
    let mut body = Vec::new();
    for (name, value) in fields {
        body.extend(format!("--xyz\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n").bytes());
    }
    for (name, content) in files {
        let head = format!("Content-Disposition: form-data; name=\"{name}\"; filename=\"a.png\"");
        body.extend(format!("--xyz\r\n{head}\r\nContent-Type: image/png\r\n\r\n").bytes());
        body.extend(*content);
        body.extend(b"\r\n");
    }
    body.extend(b"--xyz--\r\n");
    let kind = [("content-type", "multipart/form-data; boundary=xyz")];
    send(server, "POST", "/v1/images/edits", &[&kind, headers].concat(), body)
}

/// Names and data of a stream's events, and the number of its comments.
fn events(body: &[u8]) -> (Vec<(String, Value)>, usize) {
    let text = std::str::from_utf8(body).unwrap();
    let (mut all, mut name) = (Vec::new(), String::new());
    for line in text.lines() {
        if let Some(event) = line.strip_prefix("event: ") {
            event.clone_into(&mut name);
        } else if let Some(data) = line.strip_prefix("data: ") {
            all.push((name.clone(), parsed(data.as_bytes())));
        }
    }
    (all, text.lines().filter(|line| line.starts_with(": step")).count())
}

/// Requests of clients, in the shapes that these send: client, body, keys that are named as ignored.
fn shapes() -> Vec<(&'static str, Value, &'static str)> {
    vec![
        ("openai", json!({ "model": "modm", "prompt": PROMPT }), ""),
        (
            "openai, everything",
            json!({
                "model": "gpt-image-1", "prompt": PROMPT, "n": 1, "size": "auto", "quality": "high", "background": "auto",
                "moderation": "low", "output_format": "png", "output_compression": 100, "user": "u", "style": null,
            }),
            "background, moderation, quality, style, user, output_compression",
        ),
        (
            "LangChain's DALL-E wrapper",
            json!({ "model": "dall-e-3", "prompt": PROMPT, "n": 1, "quality": "standard", "size": "1024x1024" }),
            "quality, size",
        ),
        (
            "litellm",
            json!({ "model": "dall-e-2", "prompt": PROMPT, "n": 1, "user": "u", "response_format": "b64_json" }),
            "user",
        ),
        (
            "Open WebUI",
            json!({ "model": "dall-e-2", "prompt": PROMPT, "n": 1, "size": "512x512", "response_format": "b64_json" }),
            "size",
        ),
        ("Open WebUI, gpt-image", json!({ "model": "gpt-image-1", "prompt": PROMPT, "n": 1, "size": "auto" }), ""),
        ("AIPerf", json!({ "prompt": PROMPT, "model": "modm", "response_format": "b64_json", "n": 1 }), ""),
        ("nulls of another server", json!({ "prompt": PROMPT, "watermark": null, "seed": null }), "watermark"),
    ]
}

#[test]
fn requests_of_other_peoples_clients_are_answered() {
    let folder = tempfile::tempdir().unwrap();
    let server = Served::start(folder.path(), &FOR_ALL);
    for (client, body, ignored) in shapes() {
        // Azure's clients, and Open WebUI for Azure, name a version of the API.
        let (status, headers, answer) =
            server.answer("POST", "/v1/images/generations?api-version=2025-04-01", Some(&body));
        let answer = parsed(&answer);
        assert_eq!((status, header(&headers, "x-modm-ignored").as_str()), (200, ignored), "{client}: {answer}");
        // OpenAI's DALL-E answers with addresses unless asked otherwise, and LangChain's wrapper counts on it.
        match answer["data"][0]["url"].as_str() {
            Some(url) => {
                assert!(client.starts_with("LangChain") && url.starts_with(&server.address), "{client}: {url}");
            }
            None => assert_eq!(picture(&answer["data"][0]).size(), [32, 32], "{client}"),
        }
        assert_eq!(header(&headers, "x-modm-model"), answer["modm"][0]["model"].as_str().unwrap(), "{client}");
        assert_eq!(answer["size"], "32x32", "{client}: what was drawn is said");
    }
    // What would change the picture and is not done is refused by its name, also for jobs.
    for (key, value, says) in [
        ("background", json!("transparent"), "expected one of auto, opaque"),
        ("quality", json!("ultra"), "expected one of auto, standard"),
        ("style", json!("loud"), "expected one of natural, vivid"),
        ("output_format", json!("gif"), "expected one of png, jpeg, webp"),
        ("output_compression", json!(101), "from 0 to 100"),
        ("partial_images", json!(4), "from 0 to 3"),
        ("strength", json!(0.5), "POST /v1/images/edits"),
        ("model", json!("dall-e-4"), "one of GET /v1/models"),
        ("timeout", json!(30), "is not known here"),
        ("a b", json!(null), "is not known here"),
    ] {
        for path in ["/v1/images/generations", "/v1/jobs"] {
            let (status, answer) = server.json("POST", path, Some(&json!({ "prompt": PROMPT, key: value })));
            let error = &answer["error"];
            let message = error["message"].as_str().unwrap();
            assert!(status == 400 && error["param"] == key && message.contains(says), "{key}: {answer}");
        }
    }
    let (status, headers, _) = server.answer("POST", "/v1/jobs", Some(&json!({ "prompt": PROMPT, "style": "vivid" })));
    assert_eq!((status, header(&headers, "x-modm-ignored").as_str()), (202, "style"));
    let (status, answer) = server.json("POST", "/v1/jobs", Some(&json!({ "prompt": PROMPT, "stream": true })));
    assert_eq!((status, &answer["error"]["param"]), (400, &json!("stream")), "a job has events of its own");
    prompts_that_are_cut_are_named(&server);
    pages_of_allowed_origins_may_ask(&server);
    assert!(server.terminate().success());
}

fn prompts_that_are_cut_are_named(server: &Served) {
    let (status, headers, answer) = server.answer("POST", "/v1/images/generations", Some(&json!({ "prompt": PROMPT })));
    let answer = parsed(&answer);
    assert!(status == 200 && !headers.contains_key("x-modm-prompt-cut"), "{answer}");
    assert!(answer["modm"][0].get("prompt_cut").is_none(), "{answer}");
    let long = format!("{PROMPT} {PROMPT}");
    let (_, headers, answer) = server.answer("POST", "/v1/images/generations", Some(&json!({ "prompt": long })));
    let cut = parsed(&answer)["modm"][0]["prompt_cut"][0].clone();
    let left_out = cut["left_out"].as_u64().unwrap();
    assert!(cut["limit"] == 16 && left_out > 0 && left_out < 16, "{cut}");
    let told = format!("{}={left_out}", cut["encoder"].as_str().unwrap());
    assert_eq!(header(&headers, "x-modm-prompt-cut"), told);
}

fn pages_of_allowed_origins_may_ask(server: &Served) {
    let asks = [("origin", "https://app.example.org"), ("access-control-request-method", "POST")];
    let (status, headers, _) = send(server, "OPTIONS", "/v1/images/generations", &asks, Vec::new());
    assert_eq!((status, header(&headers, "access-control-allow-origin").as_str()), (204, "https://app.example.org"));
    assert!(header(&headers, "access-control-allow-headers").contains("authorization"));
    let (_, headers, _) = send(server, "GET", "/v1/models", &asks[..1], Vec::new());
    assert_eq!(header(&headers, "access-control-allow-origin"), "https://app.example.org");
    assert!(header(&headers, "access-control-expose-headers").contains("x-modm-ignored"));
    for other in ["https://app.example.org.evil", "http://app.example.org", "null"] {
        let asks = [("origin", other), ("access-control-request-method", "POST")];
        let (status, headers, _) = send(server, "OPTIONS", "/v1/images/generations", &asks, Vec::new());
        assert!(status == 405 && !headers.contains_key("access-control-allow-origin"), "{other}");
    }
}

#[test]
fn a_model_that_is_named_draws_or_the_answer_says_which_did() {
    let folder = tempfile::tempdir().unwrap();
    let bounds = ["--set", "system.bounds=[[0.20, 20]]"];
    let server = Served::start(folder.path(), &[FOR_ALL.as_slice(), &bounds].concat());
    let drawn = |model: &str| {
        let body = json!({ "prompt": PROMPT, "model": model });
        let (status, headers, answer) = server.answer("POST", "/v1/images/generations", Some(&body));
        let answer = parsed(&answer);
        assert_eq!(status, 200, "{answer}");
        let made = answer["modm"][0].clone();
        assert_eq!(made["model"], header(&headers, "x-modm-model"), "{made}");
        (made["decision"].as_str().unwrap().to_owned(), made["model"].as_str().unwrap().to_owned())
    };
    let miss = ("miss".to_owned(), "shapes-large".to_owned());
    assert_eq!(drawn("modm"), miss);
    within(60, "the picture is cached", || (server.get("/v1/cache")["data"][0].is_object()).then_some(()));
    // There is something to hit, and the large model alone draws misses.
    assert_eq!([drawn("shapes-large"), drawn("gpt-image-1")], [miss.clone(), miss]);
    let names = server.get("/v1/models");
    let scenario: Vec<&str> =
        names["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert_eq!(scenario[..2], ["modm", "auto"]);
    for name in scenario {
        let (decision, model) = drawn(name);
        assert!(
            ["hit", "miss"].contains(&decision.as_str()) && model.starts_with("shapes-"),
            "{name}: {decision}, {model}"
        );
        assert_eq!(server.get(&format!("/v1/models/{name}"))["id"], name);
    }
    assert_eq!(server.get("/v1/models/gpt-image-1")["alias_of"], "shapes-large");
    assert!(server.terminate().success());
}

#[test]
fn pictures_come_as_png_jpeg_and_webp_and_as_events() {
    let folder = tempfile::tempdir().unwrap();
    let server = Served::start(folder.path(), &[]);
    let signs: [(&str, &[u8]); 3] = [("png", b"\x89PNG"), ("jpeg", b"\xff\xd8\xff"), ("webp", b"RIFF")];
    for (form, sign) in signs {
        let body = json!({ "prompt": PROMPT, "output_format": form, "output_compression": 60 });
        let (status, answer) = server.draw(&body);
        assert_eq!((status, &answer["output_format"]), (200, &json!(form)), "{answer}");
        let bytes = STANDARD.decode(answer["data"][0]["b64_json"].as_str().unwrap()).unwrap();
        assert!(bytes.starts_with(sign), "{form}");
        let (_, answer) = server.draw(&json!({ "prompt": PROMPT, "output_format": form, "response_format": "url" }));
        let url = answer["data"][0]["url"].as_str().unwrap();
        let (status, headers, bytes) = server.answer("GET", url.strip_prefix(&server.address).unwrap(), None);
        assert_eq!((status, header(&headers, "content-type")), (200, format!("image/{form}")), "{url}");
        assert!(bytes.starts_with(sign) && Picture::decode(&bytes).unwrap().size() == [32, 32], "{url}");
        // Every result can be had in every form, and what is kept is kept without loss.
        let plain = url.strip_prefix(&server.address).unwrap().split('?').next().unwrap();
        let (_, headers, _) = server.answer("GET", plain, None);
        assert_eq!(header(&headers, "content-type"), "image/png");
        assert_eq!(server.answer("GET", &format!("{plain}?format=gif"), None).0, 400);
        assert_eq!(server.answer("GET", &format!("{plain}?format=jpeg&quality=x"), None).0, 400);
        let (status, job) = server.json("POST", "/v1/jobs", Some(&json!({ "prompt": PROMPT, "output_format": form })));
        assert_eq!(status, 202, "{job}");
        let job = server.ended(job["id"].as_str().unwrap());
        let (_, headers, _) =
            server.answer("GET", job["data"][0]["url"].as_str().unwrap().strip_prefix(&server.address).unwrap(), None);
        assert_eq!(header(&headers, "content-type"), format!("image/{form}"), "{job}");
    }
    for more in [json!({}), json!({ "partial_images": 2 }), json!({ "n": 2, "output_format": "webp" })] {
        let mut body = json!({ "prompt": PROMPT, "stream": true, "model": "modm", "cache": "no-hit" });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let (status, headers, stream) = server.answer("POST", "/v1/images/generations", Some(&body));
        assert_eq!((status, header(&headers, "content-type").as_str()), (200, "text/event-stream"));
        let ignored = if more.get("partial_images").is_some() { "partial_images" } else { "" };
        assert_eq!(header(&headers, "x-modm-ignored"), ignored);
        let (events, steps) = events(&stream);
        assert!(events.len() as u64 == more["n"].as_u64().unwrap_or(1) && steps > 0, "{more}: {steps} {events:?}");
        for (name, data) in events {
            assert!(name == "image_generation.completed" && data["type"] == name.as_str(), "{data}");
            assert_eq!(data["modm"]["model"], "shapes-large", "{data}");
            assert_eq!(picture(&data).size(), [32, 32]);
        }
    }
    assert!(server.terminate().success());
}

/// Sum of the differences between the bytes of two pictures of one size.
fn difference(one: &Picture, other: &Picture) -> u64 {
    assert_eq!(one.size(), other.size());
    one.bytes().iter().zip(other.bytes()).map(|(one, other)| u64::from(one.abs_diff(*other))).sum()
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn a_picture_that_is_sent_is_refined_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let server = Served::start(folder.path(), &[&FOR_ALL[..], &["--set", "serve.max_upload=200000"]].concat());
    let (_, drawn) = server.draw(&json!({ "prompt": PROMPT, "cache": "off", "seed": 5 }));
    let source = picture(&drawn["data"][0]);
    let png = source.encode(ImageFormat::Png).unwrap();
    let refined = |strength: &str, prompt: &str| {
        let fields = [("prompt", prompt), ("strength", strength), ("n", "1"), ("seed", "7"), ("model", "auto")];
        let (status, answer) = form(&server, &[], &fields, &[("image", &png)]);
        assert_eq!(status, 200, "{answer}");
        let made = answer["modm"][0].clone();
        assert!(made["decision"] == "edit" && made["source"].is_null() && made["similarity"].is_null(), "{made}");
        (difference(&picture(&answer["data"][0]), &source), made["skipped_steps"].as_u64().unwrap())
    };
    let other = "a large blue star at the bottom right on black";
    let (near, far) = (refined("0.1", PROMPT), refined("0.95", other));
    assert!(near.1 == 23 && far.1 == 1, "of 26 steps: {near:?} {far:?}");
    assert!(4 * near.0 < far.0, "what is denoised less stays nearer: {near:?} {far:?}");
    // Forms of other sources, and Open WebUI's name for the picture.
    let jpeg = source.resized([80, 40]).to_jpeg(90).unwrap();
    let webp = source.to_webp().unwrap();
    for bytes in [&jpeg, &webp] {
        let fields = [("model", "gpt-image-1"), ("prompt", PROMPT), ("size", "1024x1024"), ("output_format", "jpeg")];
        let (status, headers, answer) = sent_form(&server, &[], &fields, &[("image[]", bytes)]);
        assert_eq!((status, header(&headers, "x-modm-ignored").as_str()), (200, "size"), "{:?}", parsed(&answer));
        assert_eq!(parsed(&answer)["output_format"], "jpeg");
    }
    let (_, headers, stream) = sent_form(&server, &[], &[("prompt", PROMPT), ("stream", "true")], &[("image", &png)]);
    assert_eq!(header(&headers, "content-type"), "text/event-stream");
    assert_eq!(events(&stream).0[0].0, "image_edit.completed");

    refused_edits(&server, &png);
    // Nothing of all that is cached, counted as a hit, kept or recorded.
    assert_eq!(server.get("/v1/cache")["data"], json!([]));
    let status = server.get("/v1/status");
    assert!(status["hit_rate"] == 0.0 && status["cache_images"] == 0, "{status}");
    let (_, metrics) = server.text("/metrics");
    assert!(metrics.contains("decision=\"edit\"") && !metrics.contains("decision=\"hit\""), "{metrics}");
    assert!(server.terminate().success());
    let pictures = files(folder.path()).into_iter().filter(|file| {
        let bytes = fs::read(file).unwrap();
        bytes.windows(4).any(|window| window == b"\x89PNG")
            || bytes.windows(4).any(|window| window == b"\xff\xd8\xff\xe0")
    });
    assert_eq!(pictures.collect::<Vec<_>>(), Vec::<std::path::PathBuf>::new());
    let traffic = fs::read_dir(folder.path().join("traffic")).unwrap().next().unwrap().unwrap().path();
    assert_eq!(
        fs::read_to_string(traffic.join("requests.csv")).unwrap().lines().count(),
        1,
        "the names of the columns"
    );
}

fn refused_edits(server: &Served, png: &[u8]) {
    let prompt = [("prompt", PROMPT)];
    let image: [(&str, &[u8]); 1] = [("image", png)];
    let says = |(status, answer): (u16, Value), expected: u16, text: &str| {
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(status == expected && message.contains(text), "{status}: {answer}");
    };
    says(form(server, &[], &prompt, &[image[0], ("mask", png)]), 501, "mask");
    says(form(server, &[], &prompt, &[image[0], image[0]]), 501, "one picture");
    says(form(server, &[], &prompt, &[]), 400, "expected a picture");
    says(form(server, &[], &prompt, &[("image", b"")]), 400, "found nothing");
    says(form(server, &[], &prompt, &[("image", b"no picture")]), 400, "expected a PNG, JPEG or WebP");
    says(form(server, &[], &[], &image), 400, "prompt");
    says(form(server, &[], &[prompt[0], prompt[0]], &image), 400, "twice");
    says(form(server, &[], &prompt, &[image[0], ("other", png)]), 400, "is not known here");
    for (key, value, text) in [
        ("strength", "1", "above 0 and below 1"),
        ("input_fidelity", "high", "expected one of low"),
        ("background", "transparent", "expected one of auto, opaque"),
        ("n", "x", "a whole number from 1 to 10"),
        ("seed", "null", "a whole number from 0 to 2^53"),
        ("colour", "red", "is not known here"),
    ] {
        says(form(server, &[], &[prompt[0], (key, value)], &image), 400, text);
    }
    // More pixels than are decoded, in few bytes.
    let wide = Picture::new(5000, 1, vec![0; 15_000]).encode(ImageFormat::Png).unwrap();
    says(form(server, &[], &prompt, &[("image", &wide)]), 400, "at most 4096 x 4096 pixels");
    says(form(server, &[], &prompt, &[("image", &vec![0; 300_000])]), 413, "200000 bytes");
    let (status, _, answer) = send(server, "POST", "/v1/images/variations", &[], Vec::new());
    says((status, parsed(&answer)), 501, "is not offered");
    let (status, answer) = server.json("POST", "/v1/images/edits", Some(&json!({ "prompt": PROMPT })));
    says((status, answer), 415, "a form with files");
    // A page of another site may not send forms; the server's own pages and allowed ones may.
    says(form(server, &[("origin", "https://evil.example.org")], &prompt, &image), 403, "of another site");
    for own in [server.address.as_str(), "https://app.example.org"] {
        assert_eq!(form(server, &[("origin", own)], &prompt, &image).0, 200, "{own}");
    }
}

#[test]
fn signed_addresses_need_no_key_and_names_are_listened_on() {
    let folder = tempfile::tempdir().unwrap();
    let (alice, first) = key("alice", "");
    let (bob, second) = key("bob", "");
    let keys = folder.path().join("keys.toml");
    fs::write(&keys, format!("{first}{second}")).unwrap();
    crate::onnxruntime::library();
    let data = folder.path().join("data");
    let mut command = modm(&["serve", "--listen", "localhost:0", "--set", "serve.signed_urls=true", "--data"]);
    command.arg(&data).arg(root().join("scenarios/live-shapes.toml")).args(SHORT).arg("--keys").arg(&keys);
    let server = Served::launch(&mut command).with_key(&alice);
    let draw = || {
        let (status, answer) =
            server.draw(&json!({ "prompt": PROMPT, "response_format": "url", "output_format": "webp" }));
        assert_eq!(status, 200, "{answer}");
        answer["data"][0]["url"].as_str().unwrap().strip_prefix(&server.address).unwrap().to_owned()
    };
    let (url, other) = (draw(), draw());
    let get = |path: &str, headers: &[(&str, &str)]| send(&server, "GET", path, headers, Vec::new());
    let (status, headers, _) = get(&url, &[]);
    assert_eq!((status, header(&headers, "content-type").as_str()), (200, "image/webp"), "{url}");
    let (plain, query) = url.split_once('?').unwrap();
    let expires: u64 = query.split_once("expires=").unwrap().1.split('&').next().unwrap().parse().unwrap();
    // Another picture, a later date, another signature and none.
    let foreign = format!("{}?{query}", other.split('?').next().unwrap());
    let later = url.replace(&format!("expires={expires}"), &format!("expires={}", expires + 1));
    for wrong in [foreign, later, format!("{url}0"), url.replace("expires=", "expires=-")] {
        assert!([401, 403].contains(&get(&wrong, &[]).0), "{wrong}");
    }
    assert_eq!(get(plain, &[]).0, 401);
    // Keys see what they saw before, whatever the signature.
    let bearer = |key: &str| format!("Bearer {key}");
    assert_eq!(get(plain, &[("authorization", &bearer(&alice))]).0, 200);
    assert_eq!(get(plain, &[("authorization", &bearer(&bob))]).0, 404);
    // A signature is for results: a cached picture has none, and deletion ends both.
    let id = plain.rsplit('/').next().unwrap();
    assert_eq!(server.json("DELETE", &format!("/v1/images/{id}"), None).0, 200);
    assert_eq!(get(&url, &[]).0, 404);
    assert!(server.terminate().success());
}
