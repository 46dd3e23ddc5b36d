//! Tests of the store at its limit of bytes, and of a damaged store.

use std::fs;

use super::*;
use crate::embedding::Embedding;
use crate::request::RequestId;

fn embedding() -> Embedding {
    Embedding::normalised(&[1.0, 2.0]).expect("an embedding")
}

fn open(folder: &Path) -> Opened {
    Store::open(folder, ImageFormat::Png, "test", RealDisk).expect("a store")
}

fn keep(store: &mut Store, image: u32) {
    let picture = Arc::new(Picture::new(2, 2, vec![image as u8; 12]));
    let seed = (1, u64::from(image));
    store.keep(ImageId::warm(image), picture, |file| Record {
        file,
        prompt: "x".to_owned(),
        tenant: None,
        model: "m".to_owned(),
        seed,
        steps: (1, 0),
        checkpoint: String::new(),
        negative_prompt: String::new(),
        guidance: None,
        source: None,
        origins: Vec::new(),
        key: embedding(),
    });
}

/// Waits until the disk thread has dealt with every picture that is to be kept.
fn settled(store: &Store) {
    while !store.sources().known().unwritten.is_empty() {
        std::thread::yield_now();
    }
}

#[test]
fn a_store_has_room_for_so_many_bytes() {
    let folder = tempfile::tempdir().expect("a folder");
    let Opened { mut store, .. } = open(folder.path());
    keep(&mut store, 0);
    settled(&store);
    let one = store.sources().known().bytes;
    store.limit(2 * one + one / 2);
    (1..5).for_each(|image| keep(&mut store, image));
    settled(&store);
    let sources = store.sources();
    assert_eq!((sources.left_out(), sources.take_failures().len()), (3, 3));
    assert!(sources.read(ImageId::warm(1)).is_ok() && sources.read(ImageId::warm(4)).is_err());
    // An entry that goes makes room.
    store.release(ImageId::warm(0));
    keep(&mut store, 9);
    settled(&store);
    assert!(sources.read(ImageId::warm(9)).is_ok() && sources.is_writing());
    assert_eq!(store.close(HostDuration::from_secs(30)), Vec::<String>::new());
    assert!(!sources.is_writing());
    let Opened { store, found, .. } = open(folder.path());
    assert_eq!(found.len(), 2);
    assert!(store.sources().known().bytes > one);
}

#[test]
fn a_picture_that_is_asked_for_is_read_before_its_entry_is_removed() {
    let folder = tempfile::tempdir().expect("a folder");
    let Opened { mut store, .. } = open(folder.path());
    (0..2).for_each(|image| keep(&mut store, image));
    settled(&store);
    let (to, answers) = std::sync::mpsc::channel();
    for image in [0, 1, 7] {
        let to = to.clone();
        let tell = move |picture: Result<Arc<Picture>, StoreError>| {
            let first_byte = picture.map(|picture| picture.bytes()[0]);
            to.send((image, first_byte)).expect("the test listens");
        };
        store.read_later(ImageId::warm(image), tell);
        store.release(ImageId::warm(image));
    }
    assert_eq!(store.close(HostDuration::from_secs(30)), Vec::<String>::new());
    drop(to);
    let mut told: Vec<(u32, Option<u8>)> = answers.iter().map(|(image, byte)| (image, byte.ok())).collect();
    told.sort_unstable();
    assert_eq!(told, [(0, Some(0)), (1, Some(1)), (7, None)]);
}

#[test]
fn a_damaged_store_is_made_whole_and_one_of_a_newer_program_is_left() {
    let folder = tempfile::tempdir().expect("a folder");
    let (place, aside) = (folder.path().join("store"), folder.path().join("aside"));
    let Opened { mut store, .. } = open(&place);
    (0..4).for_each(|image| keep(&mut store, image));
    assert_eq!(inspect(&place).expect_err("in use").kind(), std::io::ErrorKind::WouldBlock);
    assert_eq!(store.close(HostDuration::from_secs(30)), Vec::<String>::new());
    assert!(inspect(&place).expect("looked at").is_empty());
    fs::write(place.join(record_name(0)), "{").expect("damaged");
    fs::write(place.join(picture_name(1, ImageFormat::Png)), b"\x89PNG").expect("damaged");
    fs::remove_file(place.join(picture_name(2, ImageFormat::Png))).expect("removed");
    fs::write(place.join(open::INDEX), "{}").expect("damaged");
    assert_eq!(inspect(&place).expect("looked at").len(), 4);
    assert!(repair(&place, &aside).expect("repaired").done.len() >= 4 && aside.join(record_name(0)).exists());
    assert!(inspect(&place).expect("looked at").is_empty());
    let Opened { store, found, warnings } = open(&place);
    assert_eq!((found.len(), warnings), (1, Vec::new()));
    assert_eq!(store.close(HostDuration::from_secs(30)), Vec::<String>::new());

    fs::write(place.join(open::MARK), r#"{"version":7,"encoder":"test"}"#).expect("a mark");
    let refused = Store::open(&place, ImageFormat::Png, "test", RealDisk).expect_err("refused").to_string();
    assert!(refused.contains("version = 7: is of a newer modm"), "{refused}");
    assert_eq!(repair(&place, &aside).expect("left").done, Vec::<String>::new());
    fs::write(place.join(open::MARK), "").expect("damaged");
    assert!(repair(&place, &folder.path().join("whole")).expect("moved").done[0].contains("the whole store"));
    let left: Vec<_> = fs::read_dir(&place).expect("read").map(|file| file.expect("a file").file_name()).collect();
    assert_eq!(left.len(), 2, "its lock and its numbers: {left:?}");
}

#[test]
fn pictures_are_listed_by_tenant_a_page_at_a_time() {
    let sources = Sources { folder: PathBuf::from("none"), known: Arc::default(), records: Arc::default() };
    let image = |number: u64| ImageId::of_request(RequestId(number as u32));
    for number in 0..100 {
        let tenant = [Some("a"), Some("b"), None][number as usize % 3];
        sources.known().insert(image(number), number, tenant);
    }
    assert_eq!(sources.newest(Some(&["a"]), None, 3), [99, 96, 93]);
    assert_eq!(sources.newest(Some(&["a"]), Some(93), 3), [90, 87, 84]);
    assert_eq!(sources.newest(Some(&["b", "a"]), Some(4), 9), [3, 1, 0]);
    assert_eq!(sources.newest(None, Some(3), 9), [2, 1, 0]);
    assert_eq!(sources.newest(Some(&["c"]), None, 3), [] as [u64; 0]);
    assert_eq!(sources.owner(0).expect("it is cached").as_deref(), Some("a"));
    assert_eq!(sources.owner(2).expect("it is cached"), None);
    assert_eq!(sources.known().remove(image(96)), Some(96));
    assert_eq!((sources.newest(Some(&["a"]), None, 2), sources.owner(96).is_err()), (vec![99, 93], true));
}

/// Disk that takes a while before and after it writes the first record, and tells when it begins.
struct SlowRecord(std::sync::mpsc::Sender<()>);

impl Disk for SlowRecord {
    fn write(&self, file: &Path, bytes: &[u8]) -> std::io::Result<()> {
        if !file.ends_with(record_name(0)) {
            return RealDisk.write(file, bytes);
        }
        let _ = self.0.send(());
        pause(HostDuration::from_millis(100));
        RealDisk.write(file, bytes)?;
        pause(HostDuration::from_millis(100));
        Ok(())
    }
}

#[test]
fn no_record_of_a_deleted_entry_comes_after_its_deletion() {
    let folder = tempfile::tempdir().expect("a folder");
    let (begins, begun) = channel();
    let opened = Store::open(folder.path(), ImageFormat::Png, "test", SlowRecord(begins));
    let Opened { mut store, .. } = opened.expect("a store");
    // The first record is being written at the deletion, the second one has not been begun.
    (0..2).for_each(|image| keep(&mut store, image));
    begun.recv().expect("a record is begun");
    let sources = store.sources();
    (0..2).for_each(|number| assert_eq!(sources.delete(number, false).0.numbers, [number]));
    sources.remove_records(&[0, 1]).expect("removed");
    // A kill at any time from now on must leave no record.
    while !sources.known().unwritten.is_empty() {
        assert!((0..2).all(|number| !folder.path().join(record_name(number)).exists()), "a record came back");
    }
    assert_eq!(store.close(HostDuration::from_secs(30)), Vec::<String>::new());
    let Opened { found, .. } = open(folder.path());
    assert!(found.is_empty());
}

#[test]
fn numbers_of_entries_that_are_gone_are_not_given_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut highest = None;
    // Even rounds end with the close of the store, odd ones with a kill.
    for round in 0..6 {
        let Opened { mut store, found, warnings } = open(folder.path());
        assert_eq!((found.len(), warnings), (0, Vec::new()), "round {round}");
        for image in 0..3 {
            keep(&mut store, image);
            let number = store.number(ImageId::warm(image));
            assert!(number > highest, "round {round}: {number:?} after {highest:?}");
            highest = number;
        }
        settled(&store);
        (0..3).for_each(|image| store.release(ImageId::warm(image)));
        if round % 2 == 0 {
            assert_eq!(store.close(HostDuration::from_secs(30)), Vec::<String>::new());
        } else {
            let Store { orders, writer, .. } = store;
            drop(orders);
            writer.join().expect("it ended");
        }
    }
}

/// Contents of all files below a folder, except locks and what the store makes anew.
fn contents(folder: &Path) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else {
            found.push(fs::read(path).expect("read"));
        }
    }
    found
}

#[test]
fn a_repair_deletes_nothing_and_has_the_store_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let (place, aside) = (folder.path().join("store"), folder.path().join("aside"));
    let Opened { mut store, .. } = open(&place);
    (0..4).for_each(|image| keep(&mut store, image));
    assert_eq!(store.close(HostDuration::from_secs(30)), Vec::<String>::new());
    // A picture whose record is gone, a file that was being written, a damaged record, and an index of all of them.
    fs::remove_file(place.join(record_name(3))).expect("removed");
    fs::write(place.join("000000000009.png.partial"), b"half").expect("written");
    fs::write(place.join(record_name(0)), "{").expect("damaged");
    let before = contents(&place);
    let reader = open::lock_existing(&place).expect("locked");
    assert_eq!(repair(&place, &aside).expect_err("in use").kind(), std::io::ErrorKind::WouldBlock);
    drop(reader);
    assert!(!repair(&place, &aside).expect("repaired").done.is_empty());
    let after = contents(folder.path());
    assert!(before.iter().all(|content| after.contains(content)), "something was deleted");
    assert!(inspect(&place).expect("looked at").is_empty());
    let Opened { mut store, found, warnings } = open(&place);
    assert_eq!((found.len(), warnings), (2, Vec::new()));
    keep(&mut store, 7);
    assert!(store.number(ImageId::warm(7)) > Some(3));
    assert_eq!(store.close(HostDuration::from_secs(30)), Vec::<String>::new());

    // A store as a whole: what comes after it gives none of its numbers.
    fs::write(place.join(open::MARK), "").expect("damaged");
    let before = contents(&place);
    assert!(repair(&place, &folder.path().join("whole")).expect("moved").done[0].contains("the whole store"));
    let after = contents(folder.path());
    assert!(before.iter().all(|content| after.contains(content)), "something was deleted");
    assert!(inspect(&place).expect("looked at").is_empty());
    let Opened { mut store, found, .. } = open(&place);
    assert!(found.is_empty());
    keep(&mut store, 0);
    assert!(store.number(ImageId::warm(0)) > Some(4));
    assert_eq!(store.close(HostDuration::from_secs(30)), Vec::<String>::new());
}

#[test]
fn stores_of_earlier_versions_are_read_with_the_sizes_of_their_pictures() {
    let folder = tempfile::tempdir().expect("a folder");
    let Opened { mut store, .. } = open(folder.path());
    (0..2).for_each(|image| keep(&mut store, image));
    settled(&store);
    assert_eq!(store.close(HostDuration::from_secs(30)), Vec::<String>::new());
    // Records of what is usual are as earlier versions wrote them.
    let record = fs::read_to_string(folder.path().join(record_name(0))).expect("a record");
    assert!(!["checkpoint", "negative_prompt", "guidance", "size"].iter().any(|key| record.contains(key)), "{record}");
    let other = record.replace("\"model\"", "\"checkpoint\": \"a\", \"guidance\": 2.5, \"model\"");
    fs::write(folder.path().join(record_name(1)), other).expect("a record");
    let index = folder.path().join("index.json");
    let text = fs::read_to_string(&index).expect("an index");
    let mut parts: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    parts.as_object_mut().and_then(|keys| keys.remove("traits")).expect("traits");
    fs::write(&index, parts.to_string()).expect("an index");
    let Opened { store, found, warnings } = open(folder.path());
    assert_eq!((found.len(), warnings.len()), (2, 0));
    let traits = |checkpoint: &str, guidance| Traits {
        size: Some([2, 2]),
        checkpoint: checkpoint.to_owned(),
        guidance,
        ..Traits::default()
    };
    assert_eq!([&found[0].traits, &found[1].traits], [&traits("", None), &traits("a", Some(2.5))]);
    // The index that is written now has the traits.
    assert_eq!(store.close(HostDuration::from_secs(30)), Vec::<String>::new());
    fs::remove_file(folder.path().join(record_name(0))).expect("a record");
    let found = open(folder.path()).found;
    assert_eq!(found[0].traits, traits("a", Some(2.5)));
}
