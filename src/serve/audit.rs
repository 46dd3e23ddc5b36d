//! Audits of hits while the server runs: choice of the hits that the large model generates as well, the scores of both
//! pictures, and the share of the large model's quality that hits keep. The desk requests the pictures (`desk/audits`);
//! the statistics are in `calibration::audit`.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use super::lock;
use super::scribe::Scribe;
use crate::calibration::audit::{self, Audit, Kept};
use crate::draw::{Purpose, stream, uniform};
use crate::input::InputError;
use crate::output::write_atomic;
use crate::request::RequestId;

/// Number of latest audits from which figures are computed, for each tenant and number of skipped steps.
const LATEST: usize = 1_000;

/// Limits of the audits on disk.
#[derive(Clone, Copy, Debug)]
pub struct Keep {
    /// Largest size of the file, in bytes. Once it is reached, the next row first removes the older half of the file.
    pub bytes: u64,
    /// Seconds for which a row is kept. Older rows are removed when the file is opened and when room is made.
    pub seconds: f64,
}

impl Keep {
    /// Returns, as CSV, the latest audits that are young enough and fit into `most` bytes.
    fn latest(self, audits: &[Audit], now: u64, most: u64) -> io::Result<Vec<u8>> {
        let young = audits.iter().filter(|audit| now.saturating_sub(audit.created) as f64 <= self.seconds);
        let mut writer = csv::Writer::from_writer(Vec::new());
        let mut ends = vec![0];
        for audit in young {
            writer.serialize(audit).map_err(io::Error::other)?;
            writer.flush()?;
            ends.push(writer.get_ref().len());
        }
        let mut text = writer.into_inner().map_err(csv::IntoInnerError::into_error)?;
        let head = text.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        ends[0] = head;
        let first = ends.partition_point(|end| (text.len() - end + head) as u64 > most);
        text.drain(head..ends.get(first).copied().unwrap_or(text.len()));
        Ok(text)
    }
}

/// File of audits that is open for writing.
struct Rows {
    file: PathBuf,
    keep: Keep,
    to: File,
    bytes: u64,
}

impl Rows {
    /// Opens a file to append rows to it, or makes a new file.
    fn open(file: &Path, keep: Keep) -> io::Result<Self> {
        let to = File::options().create(true).append(true).open(file)?;
        let bytes = to.metadata()?.len();
        Ok(Self { file: file.to_owned(), keep, to, bytes })
    }

    /// Writes a row, after making room for it if the file is full.
    fn write(&mut self, audit: &Audit) -> io::Result<()> {
        if self.bytes >= self.keep.bytes {
            let audits = audit::read(&self.file).map_err(io::Error::other)?;
            // With half of the limit free, the file is not written anew for each further row.
            let kept = self.keep.latest(&audits, super::seconds_since_1970(), self.keep.bytes / 2)?;
            write_atomic(&self.file, |to| to.write_all(&kept)).map_err(io::Error::other)?;
            // The open file has lost its name to the new one.
            *self = Self::open(&self.file, self.keep)?;
        }
        let mut writer = csv::WriterBuilder::new().has_headers(self.bytes == 0).from_writer(Vec::new());
        writer.serialize(audit).map_err(io::Error::other)?;
        let row = writer.into_inner().map_err(csv::IntoInnerError::into_error)?;
        self.to.write_all(&row)?;
        self.bytes += row.len() as u64;
        Ok(())
    }
}

/// Audits of one tenant and one number of skipped steps.
#[derive(Default)]
struct Group {
    /// Scores of the hit's picture and of the large model's picture, oldest first.
    pairs: VecDeque<(f64, f64)>,
    audited: u64,
    /// Estimate that was computed last. It is out of date if audits were added since.
    kept: Option<Kept>,
}

impl Group {
    fn is_stale(&self) -> bool {
        self.kept.as_ref().is_none_or(|kept| kept.audited != self.audited)
    }
}

#[derive(Default)]
struct Groups {
    by_kind: BTreeMap<(String, u32), Group>,
    skipped: BTreeMap<&'static str, u64>,
}

/// Audits of a server.
pub struct Audits {
    /// Share of the hits that are audited, from 0 to 1.
    share: f64,
    seed: u64,
    groups: Mutex<Groups>,
    rows: Mutex<Scribe<Audit>>,
}

/// Group whose estimate is out of date: its tenant and skipped steps, its pairs of scores, and its number of audits.
type Stale = ((String, u32), Vec<(f64, f64)>, u64);

impl Audits {
    /// Opens a file of audits, or makes a new one. A row that a crash cut off and rows that are too old or too many are
    /// removed. A file that cannot be read is set aside with a warning.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn open(file: &Path, share: f64, seed: u64, keep: Keep) -> Result<Self, InputError> {
        let unusable = |error: io::Error| InputError::new(file, format!("cannot be written: {error}"));
        let mut groups = Groups::default();
        if file.is_file() {
            cut(file).map_err(unusable)?;
            match audit::read(file) {
                Ok(audits) => {
                    for audit in &audits {
                        groups.add(audit);
                    }
                    let kept = keep.latest(&audits, super::seconds_since_1970(), keep.bytes).map_err(unusable)?;
                    if (kept.len() as u64) < fs::metadata(file).map_err(unusable)?.len() {
                        write_atomic(file, |to| to.write_all(&kept)).map_err(io::Error::other).map_err(unusable)?;
                    }
                }
                Err(error) => {
                    let aside = file.with_extension(format!("damaged-{}.csv", super::seconds_since_1970()));
                    fs::rename(file, &aside).map_err(unusable)?;
                    tracing::warn!("{error}: set aside as {}", aside.display());
                }
            }
        }
        let mut to = Rows::open(file, keep).map_err(unusable)?;
        let write = move |audit: Audit| {
            // The thread goes on, because the disk may take the next row.
            if let Err(error) = to.write(&audit) {
                tracing::warn!("an audit cannot be written: {error}");
            }
            Ok(())
        };
        let rows = Scribe::start(file.display().to_string(), write).map_err(unusable)?;
        Ok(Self { share, seed, groups: Mutex::new(groups), rows: Mutex::new(rows) })
    }

    /// Returns the share of the hits that are audited, from 0 to 1.
    #[must_use]
    pub const fn share(&self) -> f64 {
        self.share
    }

    /// Returns whether a request is audited if it is a hit.
    #[must_use]
    pub fn draws(&self, request: RequestId) -> bool {
        // The number is above 0 and at most 1: a share of 0 chooses nothing, a share of 1 everything.
        uniform(&mut stream(self.seed, Purpose::Audit, u64::from(request.0))) <= self.share
    }

    /// Adds an audit to the figures and has its row written.
    pub fn add(&self, audit: &Audit) {
        lock(&self.groups).add(audit);
        lock(&self.rows).write(audit.clone());
    }

    /// Waits until all audits are on disk, or `patience` has passed.
    pub fn close(&self, patience: Duration) {
        if !lock(&self.rows).close(patience) {
            tracing::warn!("the last audits are not on disk");
        }
    }

    /// Counts a hit that was chosen for an audit but is not audited, by reason.
    pub fn skip(&self, reason: &'static str) {
        *lock(&self.groups).skipped.entry(reason).or_insert(0) += 1;
    }

    /// Returns the number of hits that were chosen for an audit but are not audited, by reason.
    #[must_use]
    pub fn skipped(&self) -> Vec<(&'static str, u64)> {
        lock(&self.groups).skipped.iter().map(|(reason, count)| (*reason, *count)).collect()
    }

    /// Returns the share of the large model's quality that hits keep, by tenant and skipped steps. The groups are those
    /// of one tenant, or of all.
    #[must_use]
    pub fn kept(&self, tenant: Option<&str>) -> Vec<Kept> {
        let wanted = |own: &str| tenant.is_none_or(|tenant| tenant == own);
        let stale: Vec<Stale> = {
            let groups = lock(&self.groups);
            let stale = groups.by_kind.iter().filter(|((own, _), group)| wanted(own) && group.is_stale());
            let copied = |(kind, group): (&(String, u32), &Group)| {
                (kind.clone(), group.pairs.iter().copied().collect(), group.audited)
            };
            stale.map(copied).collect()
        };
        // The estimates are resampled without the lock, because the loop takes it to add audits.
        let found: Vec<Kept> = stale
            .into_iter()
            .map(|((tenant, skipped), pairs, audited)| {
                Kept::new(Some(tenant), Some(skipped), &pairs, audited, self.seed)
            })
            .collect();
        let mut groups = lock(&self.groups);
        for kept in found {
            let (Some(tenant), Some(skipped)) = (&kept.tenant, kept.skipped_steps) else { continue };
            if let Some(group) = groups.by_kind.get_mut(&(tenant.clone(), skipped)) {
                group.kept = Some(kept);
            }
        }
        let all = groups.by_kind.iter().filter(|((own, _), _)| wanted(own));
        all.filter_map(|(_, group)| group.kept.clone()).collect()
    }
}

/// Removes the incomplete row at the end of a file.
fn cut(file: &Path) -> std::io::Result<()> {
    let bytes = fs::read(file)?;
    // No field of a row has a line break: names of tenants have no control characters.
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    if whole < bytes.len() {
        File::options().write(true).open(file)?.set_len(whole as u64)?;
    }
    Ok(())
}

impl Groups {
    fn add(&mut self, audit: &Audit) {
        let group = self.by_kind.entry((audit.tenant.clone(), audit.skipped_steps)).or_default();
        if group.pairs.len() == LATEST {
            group.pairs.pop_front();
        }
        group.pairs.push_back((audit.hit_score, audit.large_score));
        group.audited += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP: Keep = Keep { bytes: 1 << 20, seconds: 1e9 };

    fn audit(tenant: &str, hit_score: f64) -> Audit {
        let created = super::super::seconds_since_1970();
        Audit { created, tenant: tenant.to_owned(), skipped_steps: 5, similarity: 0.9, hit_score, large_score: 0.8 }
    }

    #[test]
    fn audits_outlive_a_restart_and_tenants_see_their_own() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join(audit::FILE);
        let audits = Audits::open(&file, 1.0, 1, KEEP).expect("begun");
        for at in 0..20 {
            audits.add(&audit(["a", "b"][at % 2], 0.8));
        }
        audits.close(Duration::from_secs(10));
        // A crash cuts off the last row.
        let mut text = fs::read_to_string(&file).expect("a file");
        assert_eq!(text.lines().count(), 21);
        text.push_str("1,a,5,0.");
        fs::write(&file, text).expect("written");
        let audits = Audits::open(&file, 1.0, 1, KEEP).expect("opened");
        audits.add(&audit("b", 0.4));
        let kept = |tenant| {
            let kept = audits.kept(tenant).into_iter();
            kept.map(|kept| (kept.tenant.expect("one"), kept.audited, kept.worth.expect("some").ratio))
                .collect::<Vec<_>>()
        };
        assert_eq!(kept(Some("a")), [("a".to_owned(), 10, 1.0)]);
        assert_eq!(kept(None).len(), 2);
        assert_eq!(kept(Some("b"))[0].1, 11);
        audits.close(Duration::from_secs(10));
        assert_eq!(audit::read(&file).expect("read").len(), 21);
        // A file that has no audits does not keep the server from starting.
        fs::write(&file, "\0\0\0\n1,2\n").expect("written");
        let audits = Audits::open(&file, 1.0, 1, KEEP).expect("begun anew");
        audits.add(&audit("b", 0.4));
        audits.close(Duration::from_secs(10));
        assert_eq!(audit::read(&file).expect("read").len(), 1);
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 2, "the old one is set aside");
    }

    #[test]
    fn the_file_keeps_the_latest_audits_within_its_limits() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join(audit::FILE);
        let keep = Keep { bytes: 2_000, seconds: 100.0 };
        let score = |at: u32| f64::from(at) / 1_000.0;
        let audits = Audits::open(&file, 1.0, 1, keep).expect("begun");
        (0..500).for_each(|at| audits.add(&audit("a", score(at))));
        audits.close(Duration::from_secs(10));
        let rows = audit::read(&file).expect("read");
        let bytes = fs::metadata(&file).expect("a file").len();
        assert!((900..2_100).contains(&bytes) && rows.len() > 20, "{bytes} bytes, {} rows", rows.len());
        let latest: Vec<f64> = (500 - rows.len() as u32..500).map(score).collect();
        assert_eq!(rows.iter().map(|row| row.hit_score).collect::<Vec<_>>(), latest);
        // A smaller limit takes effect at the next start, and rows that are too old are removed then.
        let audits = Audits::open(&file, 1.0, 1, Keep { bytes: 500, ..keep }).expect("opened");
        audits.close(Duration::from_secs(10));
        assert!(fs::metadata(&file).expect("a file").len() <= 500);
        let old = Audit { created: 1, ..audit("a", 0.1) };
        fs::write(&file, keep.latest(&[old], 1, 500).expect("text")).expect("written");
        assert_eq!(audit::read(&file).expect("read").len(), 1);
        Audits::open(&file, 1.0, 1, keep).expect("opened").close(Duration::from_secs(10));
        assert_eq!(audit::read(&file).expect("read").len(), 0);
    }

    #[test]
    fn the_share_is_drawn_and_drawn_again_the_same() {
        let folder = tempfile::tempdir().expect("a folder");
        let audits = |share| Audits::open(&folder.path().join(audit::FILE), share, 3, KEEP).expect("opened");
        let drawn = |share: f64| {
            let audits = audits(share);
            (0..10_000).filter(|row| audits.draws(RequestId(*row))).count()
        };
        assert_eq!([drawn(0.0), drawn(1.0)], [0, 10_000]);
        let tenth = audits(0.1);
        let count = (0..10_000).filter(|row| tenth.draws(RequestId(*row))).count();
        // The count is binomial, with a standard deviation of 30.
        assert!((900..1100).contains(&count), "{count}");
        assert_eq!(count, (0..10_000).filter(|row| tenth.draws(RequestId(*row))).count());
    }
}
