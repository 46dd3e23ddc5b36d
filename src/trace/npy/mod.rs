//! Embeddings in `.npy` files, and in `.npz` archives of them: two-dimensional arrays of f16, f32 or f64. Little-endian
//! f32 in C order are mapped into memory; all others are converted to that when they are read. Any other array is an
//! input error that says what was found.

use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use crate::embedding::{Components, EmbeddingMatrix};
use crate::input::{self, InputError};

mod convert;
mod zip;

use convert::NumberType;

const ACCEPTED: &str =
    "expected a .npy file with a two-dimensional array of f16, f32 or f64 ('<f4'), or a .npz of these";

/// Returns the file that a path of embeddings names, and the array in it: `file.npz:array`, or a file by itself.
#[must_use]
pub fn file_and_array(path: &Path) -> (PathBuf, Option<String>) {
    const END: &str = ".npz:";
    if let Some(text) = path.to_str().filter(|_| !path.exists())
        && let Some(at) = text.rfind(END)
    {
        let (file, array) = text.split_at(at + END.len());
        return (file.trim_end_matches(':').into(), Some(array.to_owned()));
    }
    (path.to_owned(), None)
}

/// Reads a file of embeddings and checks every row. A file is mapped if its components can be used in place.
///
/// # Errors
/// Returns an error unless the file holds finite rows of floating-point numbers, none of them zero, as many as the
/// header says.
pub fn read(path: &Path) -> Result<EmbeddingMatrix, InputError> {
    let (file, array) = file_and_array(path);
    let map = input::map(&file)?;
    if array.is_some() || map.starts_with(b"PK\x03\x04") {
        let bytes = zip::array(&file, &map, array.as_deref())?;
        let header = Header::check(path, &bytes)?;
        return matrix(path, header.dimension, header.components(&bytes));
    }
    let header = Header::check(path, &map)?;
    if header.is_usable() && bytemuck::try_cast_slice::<u8, f32>(&map[header.offset..]).is_ok() {
        return matrix(path, header.dimension, Mapped { map, offset: header.offset });
    }
    // numpy aligns the values that it writes; other writers may not.
    matrix(path, header.dimension, header.components(&map))
}

/// Makes a matrix of rows that are checked.
///
/// # Errors
/// Returns an error if a component is not finite or a row is zero.
pub(super) fn matrix(
    file: &Path,
    dimension: usize,
    components: impl Components + 'static,
) -> Result<EmbeddingMatrix, InputError> {
    EmbeddingMatrix::new(dimension, components).map_err(|(row, bad)| {
        InputError::new(file, format!("{bad}; expected finite components, not all zero"))
            .key(format!("row {}", row + 1))
    })
}

/// Array whose header agrees with its bytes.
struct Array {
    kind: NumberType,
    is_fortran: bool,
    rows: usize,
    dimension: usize,
    offset: usize,
}

impl Array {
    /// Returns whether the components are those of a matrix as they lie.
    const fn is_usable(&self) -> bool {
        self.kind.is_native() && !self.is_fortran
    }

    /// Converts the components.
    fn components(&self, bytes: &[u8]) -> Vec<f32> {
        convert::components(&bytes[self.offset..], self.kind, self.is_fortran, self.rows, self.dimension)
    }
}

/// Components in a mapped file, aligned so that they can be used in place.
#[derive(Debug)]
struct Mapped {
    map: memmap2::Mmap,
    offset: usize,
}

impl AsRef<[f32]> for Mapped {
    fn as_ref(&self) -> &[f32] {
        bytemuck::cast_slice(&self.map[self.offset..])
    }
}

/// Values of a header, as written, and the offset at which the components begin.
struct Header<'a> {
    dtype: &'a str,
    fortran_order: &'a str,
    shape: &'a str,
    offset: usize,
}

impl<'a> Header<'a> {
    /// Reads the header of an array, and checks it against the number of bytes that follow.
    fn check(file: &Path, bytes: &'a [u8]) -> Result<Array, InputError> {
        let wrong = |key: &str, found: &dyn std::fmt::Display| InputError::new(file, ACCEPTED).value(key, found);
        let header =
            Self::read(bytes).ok_or_else(|| InputError::new(file, format!("has no readable header; {ACCEPTED}")))?;
        let kind = NumberType::from_descr(header.dtype).ok_or_else(|| wrong("dtype", &header.dtype))?;
        let Some(&[rows, dimension]) = header.dimensions().as_deref() else {
            return Err(wrong("shape", &header.shape));
        };
        // A single row or column lies the same in both orders.
        let is_fortran = match header.fortran_order {
            "False" => false,
            "True" => rows > 1 && dimension > 1,
            other => return Err(wrong("fortran_order", &other)),
        };
        let offset = header.offset;
        if rows == 0 || dimension == 0 {
            let message = "expected at least one row and one component";
            return Err(InputError::new(file, message).value("shape", format_args!("({rows}, {dimension})")));
        }
        let expected = rows.checked_mul(dimension).and_then(|values| values.checked_mul(kind.size));
        if expected != Some(bytes.len() - offset) {
            let name = kind.name();
            let message = format!("the header promises ({rows}, {dimension}) {name} values; is the file truncated?");
            return Err(InputError::new(file, message).value("bytes of data", bytes.len() - offset));
        }
        Ok(Array { kind, is_fortran, rows, dimension, offset })
    }

    /// Reads the dictionary that numpy writes before the components: three keys, in any order.
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let (length, start) = match *bytes.get(..12)? {
            [0x93, b'N', b'U', b'M', b'P', b'Y', 1, _, a, b, ..] => (usize::from(u16::from_le_bytes([a, b])), 10_usize),
            [0x93, b'N', b'U', b'M', b'P', b'Y', _, _, a, b, c, d] => (u32::from_le_bytes([a, b, c, d]) as usize, 12),
            _ => return None,
        };
        let offset = start.checked_add(length)?;
        let text = std::str::from_utf8(bytes.get(start..offset)?).ok()?;
        let value = |key| value_of(text, key);
        Some(Self { dtype: value("descr")?, fortran_order: value("fortran_order")?, shape: value("shape")?, offset })
    }

    /// Returns the numbers of the shape.
    fn dimensions(&self) -> Option<Vec<usize>> {
        let inside = self.shape.strip_prefix('(')?.strip_suffix(')')?;
        let numbers = inside.split(',').map(str::trim).filter(|number| !number.is_empty());
        numbers.map(|number| number.parse().ok()).collect()
    }
}

/// Returns the value of a key, as written: a string with its quotes, a tuple or list with its brackets, or a word.
fn value_of<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let quoted = [format!("'{key}'"), format!("\"{key}\"")];
    let after = quoted.iter().find_map(|quoted| text.split_once(quoted.as_str())).map(|(_, after)| after)?;
    let value = after.trim_start().strip_prefix(':')?.trim_start();
    let end = match value.chars().next()? {
        quote @ ('\'' | '"') => value[1..].find(quote)? + 2,
        '(' => value.find(')')? + 1,
        // The type of a structured array is a list of lists or tuples, of which the error shows all.
        '[' => value.rfind(']')? + 1,
        _ => value.find([',', '}'])?,
    };
    Some(value[..end].trim_end())
}

/// Returns the header of a file with `rows` rows.
fn header(rows: usize, dimension: usize) -> Vec<u8> {
    // Components begin at a multiple of 64 bytes, as numpy aligns them.
    const ALIGNMENT: usize = 64;
    const BEFORE: usize = 10;
    let mut text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {dimension}), }}");
    let padding = (BEFORE + text.len() + 1).next_multiple_of(ALIGNMENT) - BEFORE - text.len() - 1;
    text.extend(std::iter::repeat_n(' ', padding));
    text.push('\n');
    let length = (text.len() as u16).to_le_bytes();
    b"\x93NUMPY\x01\x00".iter().copied().chain(length).chain(text.into_bytes()).collect()
}

/// Writes a file with rows of one dimension.
///
/// # Errors
/// Returns the writer's error.
///
/// # Panics
/// Panics if `values` does not have `rows` times `dimension` components.
pub fn write(
    mut writer: impl Write,
    rows: usize,
    dimension: usize,
    values: impl IntoIterator<Item = f32>,
) -> io::Result<()> {
    writer.write_all(&header(rows, dimension))?;
    let mut count = 0;
    for value in values {
        writer.write_all(&value.to_le_bytes())?;
        count += 1;
    }
    assert_eq!(count, rows * dimension, "values must fill the shape");
    Ok(())
}

/// File to which rows are appended. The file is complete after every row.
#[derive(Debug)]
pub struct Rows {
    file: std::fs::File,
    count: usize,
    dimension: usize,
}

/// Length of the header in bytes. The header has room for any number of rows that a file can have.
const HEADER: u64 = 128;

impl Rows {
    /// Creates a file without rows.
    ///
    /// # Errors
    /// Returns the system's error.
    pub fn create(path: &Path, dimension: usize) -> io::Result<Self> {
        let mut file = std::fs::File::create(path)?;
        file.write_all(&header(0, dimension))?;
        Ok(Self { file, count: 0, dimension })
    }

    /// Appends a row.
    ///
    /// # Errors
    /// Returns an error if the row has another dimension, or the system's error.
    pub fn push(&mut self, row: &[f32]) -> io::Result<()> {
        if row.len() != self.dimension {
            return Err(io::Error::other(format!("a row of {} numbers among rows of {}", row.len(), self.dimension)));
        }
        let bytes: Vec<u8> = row.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.file.seek(io::SeekFrom::End(0))?;
        // The row is written before the header counts it. If the process ends in between, `whole` still finds the row
        // by the length of the file.
        self.file.write_all(&bytes)?;
        self.count += 1;
        self.file.seek(io::SeekFrom::Start(0))?;
        self.file.write_all(&header(self.count, self.dimension))
    }

    /// Counts the complete rows of a file of rows by its length, whatever number its header has.
    ///
    /// # Errors
    /// Returns an error if the file is no file of rows, or the system's error.
    pub fn whole(path: &Path) -> io::Result<usize> {
        let mut file = std::fs::File::open(path)?;
        let row = (dimension(path, &mut file)? * size_of::<f32>()) as u64;
        Ok((file.metadata()?.len().saturating_sub(HEADER) / row) as usize)
    }

    /// Cuts a file of rows to its first `rows` rows.
    ///
    /// # Errors
    /// Returns an error if the file is no file of rows or has fewer rows, or the system's error.
    pub fn cut(path: &Path, rows: usize) -> io::Result<()> {
        let mut file = std::fs::File::options().read(true).write(true).open(path)?;
        let dimension = dimension(path, &mut file)?;
        let length = HEADER + (rows * dimension * size_of::<f32>()) as u64;
        if file.metadata()?.len() < length {
            return Err(io::Error::other(format!("{}: has fewer than {rows} rows", path.display())));
        }
        file.set_len(length)?;
        file.seek(io::SeekFrom::Start(0))?;
        file.write_all(&header(rows, dimension))
    }
}

/// Reads the number of components in a row from the header of a file of rows.
fn dimension(path: &Path, file: &mut std::fs::File) -> io::Result<usize> {
    let wrong = || io::Error::other(format!("{}: has no header of a file of rows", path.display()));
    let mut text = vec![0; HEADER as usize];
    file.read_exact(&mut text).map_err(|_| wrong())?;
    let text = String::from_utf8_lossy(&text);
    let shape = text.rsplit_once("), }").and_then(|(before, _)| before.rsplit_once(", "));
    let dimension: Option<usize> = shape.and_then(|(_, dimension)| dimension.parse().ok());
    // No encoder has more components. A damaged number must not lead to a count of bytes that no file has.
    dimension.filter(|dimension| (1..=1 << 20).contains(dimension)).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngExt;

    fn check(bytes: &[u8]) -> Result<EmbeddingMatrix, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("e.npy");
        std::fs::write(&path, bytes).unwrap();
        read(&path).map_err(|error| error.to_string().replace(&format!("{}/", folder.path().display()), ""))
    }

    fn good(values: &[f32], dimension: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(&mut bytes, values.len() / dimension, dimension, values.iter().copied()).unwrap();
        bytes
    }

    fn header(text: &str, data: usize) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((text.len() as u16).to_le_bytes());
        bytes.extend(text.as_bytes());
        bytes.extend(std::iter::repeat_n(1, data));
        bytes
    }

    #[test]
    fn reads_what_it_writes() {
        let matrix = check(&good(&[3.0, 4.0, 0.0, 1.0], 2)).unwrap();
        assert_eq!((matrix.rows(), matrix.dimension()), (2, 2));
        assert_eq!(matrix.embedding(0).as_slice(), [0.6, 0.8]);
    }

    #[test]
    fn reads_components_that_are_not_aligned() {
        let mut bytes = header("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 1), }\n", 0);
        assert!(!bytes.len().is_multiple_of(align_of::<f32>()), "{}", bytes.len());
        bytes.extend([3.0_f32, -1.5].into_iter().flat_map(f32::to_le_bytes));
        let matrix = check(&bytes).unwrap();
        assert_eq!([matrix.row(0), matrix.row(1)], [[3.0], [-1.5]]);
    }

    #[test]
    fn other_types_and_orders_are_converted() {
        let array = |descr: &str, fortran: &str, data: &[u8]| {
            let text = format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': (2, 3), }}\n");
            [&header(&text, 0), data].concat()
        };
        let values = [1.0, -2.0, 3.0, 4.0, 0.5, 6.0];
        let halves: Vec<u8> = [0x3c00_u16, 0xc000, 0x4200, 0x4400, 0x3800, 0x4600].map(u16::to_le_bytes).concat();
        let doubles: Vec<u8> = values.map(f64::from).map(f64::to_be_bytes).concat();
        let by_column: Vec<u8> = [1.0_f32, 4.0, -2.0, 0.5, 3.0, 6.0].map(f32::to_le_bytes).concat();
        let whole = [
            array("<f2", "False", &halves),
            array(">f8", "False", &doubles),
            array("<f4", "True", &by_column),
            zip::tests::archive(&[("arr_0.npy", &array("<f4", "True", &by_column))], true),
        ];
        for bytes in whole {
            let matrix = check(&bytes).unwrap();
            assert_eq!([matrix.row(0), matrix.row(1)].concat(), values);
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("e.npz");
        let two = [("a.npy", array("<f2", "False", &halves)), ("b.npy", good(&[7.0, 8.0], 2))];
        let two: Vec<(&str, &[u8])> = two.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect();
        std::fs::write(&path, zip::tests::archive(&two, false)).unwrap();
        let named = PathBuf::from(format!("{}:b", path.display()));
        assert_eq!(read(&named).unwrap().row(0), [7.0, 8.0]);
        assert_eq!(file_and_array(&named), (path.clone(), Some("b".to_owned())));
        assert!(read(&path).err().unwrap().to_string().contains("has several arrays (a, b): say which"));
    }

    #[test]
    fn says_what_is_wrong() {
        let error = |bytes: &[u8]| check(bytes).err().unwrap();
        let whole = "{'descr': '<i8', 'fortran_order': False, 'shape': (1, 2), }\n";
        assert_eq!(error(&header(whole, 16)), format!("e.npy: dtype = '<i8': {ACCEPTED}"));
        let flat = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }\n";
        assert_eq!(error(&header(flat, 8)), format!("e.npy: shape = (2,): {ACCEPTED}"));
        let fortran = "{'descr': '<f4', 'fortran_order': Perhaps, 'shape': (2, 2), }\n";
        assert_eq!(error(&header(fortran, 16)), format!("e.npy: fortran_order = Perhaps: {ACCEPTED}"));
        let none = "{'descr': '<f4', 'fortran_order': False, 'shape': (0, 2), }\n";
        assert_eq!(error(&header(none, 0)), "e.npy: shape = (0, 2): expected at least one row and one component");
        let huge = "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999, 9999999999999), }\n";
        assert!(error(&header(huge, 0)).contains("bytes of data = 0"));
        let mut bytes = good(&[1.0, 2.0, 3.0, 4.0], 2);
        bytes.pop();
        assert!(error(&bytes).contains("bytes of data = 15: the header promises (2, 2) f32 values"));
        assert!(error(&good(&[1.0, 0.0, f32::NAN, 1.0], 2)).contains("row 2: component 0 is not finite"));
        assert!(error(&good(&[1.0, 0.0, 0.0, 0.0], 2)).contains("row 2: all components are zero"));
        assert!(error(b"").contains("no readable header"));
        assert!(read(Path::new("nowhere.npy")).err().unwrap().to_string().contains("cannot be read"));
    }

    #[test]
    fn damaged_files_never_panic() {
        let bytes = good(&[1.0; 12], 3);
        for seed in 0..300 {
            let mut damaged = bytes.clone();
            let mut generator = crate::draw::stream(seed, crate::draw::Purpose::Test, 0);
            for _ in 0..generator.random_range(1..6) {
                let at = generator.random_range(0..damaged.len());
                damaged[at] = generator.random();
            }
            damaged.truncate(generator.random_range(0..=damaged.len()));
            let _ = check(&damaged);
        }
    }
}
