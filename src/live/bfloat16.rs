//! Widening of models in bfloat16 to single precision, for processors whose provider has no arithmetic in bfloat16. A
//! bfloat16 is the upper half of a single, so that widening loses nothing. The model's file is a protocol buffer
//! (`onnx.proto`): only messages that may hold a type or values are taken apart, and everything else is copied as it
//! is.

use std::path::{Component, Path};

use super::error::Error;
use crate::input::{self, InputError};

/// Number of the element types in ONNX.
const FLOAT: u64 = 1;
const BFLOAT16: u64 = 16;

/// Largest number of messages within each other. ONNX Runtime's own reader stops there, too.
const DEEPEST: usize = 100;

/// Number of elements above which the values of a weight are not written into the model: a model in memory must be
/// smaller than 2 GB.
const INLINE: usize = 1024;

/// Model in single precision.
#[derive(Debug, Default)]
pub(super) struct Widened {
    /// Content of the model's file.
    pub(super) model: Vec<u8>,
    /// Weights that the model names and does not hold.
    pub(super) weights: Vec<Weight>,
}

/// Weight of a model.
#[derive(Debug, PartialEq)]
pub(super) struct Weight {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) values: Vec<f32>,
}

/// Messages of `onnx.proto` that may hold an element type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Message {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    /// Initializer of the main graph, whose values can be handed over beside the model.
    Initializer,
    SparseTensor,
    ValueInfo,
    Type,
    /// Type of a tensor: its element type is field 1.
    TensorType,
    /// Type of a sequence or an optional value: the type of its elements is field 1.
    Sequence,
    Map,
    Function,
}

impl Message {
    /// Returns the message in a field, if the field holds one that may hold an element type. `main` is true in the main
    /// graph.
    const fn field(self, number: u64, main: bool) -> Option<Self> {
        Some(match (self, number) {
            (Self::Model, 7) | (Self::Attribute, 6 | 11) => Self::Graph,
            (Self::Model, 25) => Self::Function,
            (Self::Graph, 1) | (Self::Function, 7) => Self::Node,
            (Self::Graph, 5) if main => Self::Initializer,
            (Self::Graph, 5) | (Self::Attribute, 5 | 10) | (Self::SparseTensor, 1) => Self::Tensor,
            (Self::Graph, 11..=13) | (Self::Function, 12) => Self::ValueInfo,
            (Self::Graph, 15) | (Self::Attribute, 22 | 23) => Self::SparseTensor,
            (Self::Node, 5) | (Self::Function, 11) => Self::Attribute,
            (Self::Attribute, 14 | 15) | (Self::ValueInfo | Self::Map, 2) | (Self::Sequence, 1) => Self::Type,
            (Self::Type, 1 | 8) => Self::TensorType,
            (Self::Type, 4 | 9) => Self::Sequence,
            (Self::Type, 5) => Self::Map,
            _ => return None,
        })
    }
}

/// Returns the model of a file in single precision, or `None` if it has nothing in bfloat16.
///
/// # Errors
/// Returns an error if the file cannot be read, or has bfloat16 and is no ONNX model that can be taken apart.
pub(super) fn widened(file: &Path) -> Result<Option<Widened>, Error> {
    let bytes = input::map(file)?;
    // What cannot be taken apart is left to ONNX Runtime, whose message says more.
    if !has_bfloat16(Message::Model, &bytes, DEEPEST).unwrap_or(false) {
        return Ok(None);
    }
    let mut weights = Vec::new();
    let mut model = Vec::with_capacity(bytes.len());
    let folder = file.parent().unwrap_or(Path::new(""));
    let mut widening = Widening { folder, weights: &mut weights };
    widening.message(Message::Model, &bytes, true, &mut model).map_err(|fault| match fault {
        Fault::Broken => Error::model(file, "has weights in bfloat16 and is no ONNX model that can be read"),
        Fault::Data(error) => error.into(),
    })?;
    Ok(Some(Widened { model, weights }))
}

/// Reason that a model is not widened.
#[derive(Debug)]
enum Fault {
    /// Bytes that are no protocol buffer, or not of this kind.
    Broken,
    /// File of weights that cannot be read.
    Data(InputError),
}

/// Field of a message: its number, and its content.
struct Field<'a> {
    number: u64,
    content: Content<'a>,
    /// All bytes of the field.
    whole: &'a [u8],
}

enum Content<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// Number of a fixed length, which no field of interest is.
    Fixed,
}

/// Takes the first field off a message.
fn next<'a>(bytes: &mut &'a [u8]) -> Result<Field<'a>, Fault> {
    let begin = *bytes;
    let key = number(bytes)?;
    let content = match key & 7 {
        0 => Content::Number(number(bytes)?),
        1 => take(bytes, 8).map(|_| Content::Fixed)?,
        2 => {
            let length = number(bytes)?;
            Content::Bytes(take(bytes, usize::try_from(length).map_err(|_| Fault::Broken)?)?)
        }
        5 => take(bytes, 4).map(|_| Content::Fixed)?,
        _ => return Err(Fault::Broken),
    };
    Ok(Field { number: key >> 3, content, whole: &begin[..begin.len() - bytes.len()] })
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Result<&'a [u8], Fault> {
    let (taken, rest) = bytes.split_at_checked(count).ok_or(Fault::Broken)?;
    *bytes = rest;
    Ok(taken)
}

fn number(bytes: &mut &[u8]) -> Result<u64, Fault> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(bytes, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(Fault::Broken)
}

fn put_number(mut value: u64, to: &mut Vec<u8>) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

fn put_field(number: u64, value: u64, to: &mut Vec<u8>) {
    put_number(number << 3, to);
    put_number(value, to);
}

fn put_bytes(number: u64, bytes: &[u8], to: &mut Vec<u8>) {
    put_number(number << 3 | 2, to);
    put_number(bytes.len() as u64, to);
    to.extend_from_slice(bytes);
}

/// Returns whether a message holds a type or values in bfloat16.
fn has_bfloat16(message: Message, mut bytes: &[u8], depth: usize) -> Result<bool, Fault> {
    let depth = depth.checked_sub(1).ok_or(Fault::Broken)?;
    let names_type = message == Message::Attribute && names_type(bytes)?;
    while !bytes.is_empty() {
        let field = next(&mut bytes)?;
        let found = match field.content {
            Content::Number(BFLOAT16) => is_element_type(message, field.number, names_type),
            Content::Bytes(inner) => match message.field(field.number, false) {
                Some(child) => has_bfloat16(child, inner, depth)?,
                None => false,
            },
            _ => false,
        };
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns whether a field is an element type. `names_type` is true in an attribute whose number is one.
const fn is_element_type(message: Message, number: u64, names_type: bool) -> bool {
    matches!(
        (message, number, names_type),
        (Message::Tensor | Message::Initializer, 2, _) | (Message::TensorType, 1, _) | (Message::Attribute, 3, true)
    )
}

/// Returns whether an attribute has an element type as its number: the target of a cast, the type of what an operator
/// makes, or the type that it computes in.
fn names_type(mut attribute: &[u8]) -> Result<bool, Fault> {
    const NAMES: [&[u8]; 4] = [b"to", b"dtype", b"output_dtype", b"stash_type"];
    while !attribute.is_empty() {
        if let Field { number: 1, content: Content::Bytes(name), .. } = next(&mut attribute)? {
            return Ok(NAMES.contains(&name));
        }
    }
    Ok(false)
}

struct Widening<'a> {
    folder: &'a Path,
    weights: &'a mut Vec<Weight>,
}

impl Widening<'_> {
    fn message(&mut self, message: Message, mut bytes: &[u8], main: bool, to: &mut Vec<u8>) -> Result<(), Fault> {
        if matches!(message, Message::Tensor | Message::Initializer) {
            return self.tensor(message, bytes, to);
        }
        let names_type = message == Message::Attribute && names_type(bytes)?;
        while !bytes.is_empty() {
            let field = next(&mut bytes)?;
            match (field.content, message.field(field.number, main)) {
                (Content::Bytes(inner), Some(child)) => {
                    let mut widened = Vec::with_capacity(inner.len());
                    // Graphs within nodes are not the main graph.
                    self.message(child, inner, main && message != Message::Node, &mut widened)?;
                    put_bytes(field.number, &widened, to);
                }
                (Content::Number(BFLOAT16), _) if is_element_type(message, field.number, names_type) => {
                    put_field(field.number, FLOAT, to);
                }
                _ => to.extend_from_slice(field.whole),
            }
        }
        Ok(())
    }

    /// Widens a tensor. Its fields: 1 dimensions, 2 element type, 5 values as numbers, 8 name, 9 values as bytes, 13
    /// and 14 place of values in another file.
    fn tensor(&mut self, message: Message, bytes: &[u8], to: &mut Vec<u8>) -> Result<(), Fault> {
        let (mut shape, mut values, mut name) = (Vec::new(), Vec::new(), "");
        let (mut place, mut is_bfloat16, mut is_external) = (Place::default(), false, false);
        let mut rest = bytes;
        while !rest.is_empty() {
            let field = next(&mut rest)?;
            match (field.number, field.content) {
                (1, Content::Number(side)) => shape.push(usize::try_from(side).map_err(|_| Fault::Broken)?),
                (1, Content::Bytes(mut packed)) => {
                    while !packed.is_empty() {
                        shape.push(usize::try_from(number(&mut packed)?).map_err(|_| Fault::Broken)?);
                    }
                }
                (2, Content::Number(element)) => is_bfloat16 = element == BFLOAT16,
                (5, Content::Number(half)) => values.push(single(half as u16)),
                (5, Content::Bytes(mut packed)) => {
                    while !packed.is_empty() {
                        values.push(single(number(&mut packed)? as u16));
                    }
                }
                (8, Content::Bytes(text)) => name = std::str::from_utf8(text).map_err(|_| Fault::Broken)?,
                (9, Content::Bytes(raw)) => values.extend(singles(raw)),
                (13, Content::Bytes(entry)) => place.read(entry)?,
                (14, Content::Number(location)) => is_external = location == 1,
                _ => {}
            }
        }
        if !is_bfloat16 {
            to.extend_from_slice(bytes);
            return Ok(());
        }
        if is_external {
            values = place.values(self.folder)?;
        }
        let beside = message == Message::Initializer && values.len() > INLINE;
        for &side in &shape {
            put_field(1, side as u64, to);
        }
        put_field(2, FLOAT, to);
        put_bytes(8, name.as_bytes(), to);
        if beside {
            // ONNX Runtime takes values from beside the model only for a tensor that is said to be in another file.
            for (key, value) in [("location", "beside"), ("offset", "0"), ("length", &(4 * values.len()).to_string())] {
                let mut entry = Vec::new();
                put_bytes(1, key.as_bytes(), &mut entry);
                put_bytes(2, value.as_bytes(), &mut entry);
                put_bytes(13, &entry, to);
            }
            put_field(14, 1, to);
            self.weights.push(Weight { name: name.to_owned(), shape, values });
        } else {
            let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            put_bytes(9, &raw, to);
        }
        Ok(())
    }
}

/// Place of a tensor's values in another file of the model's folder.
#[derive(Default)]
struct Place<'a> {
    file: &'a str,
    offset: usize,
    length: Option<usize>,
}

impl<'a> Place<'a> {
    /// Reads an entry: a key and its value.
    fn read(&mut self, mut entry: &'a [u8]) -> Result<(), Fault> {
        let (mut key, mut value) = ("", "");
        while !entry.is_empty() {
            let field = next(&mut entry)?;
            if let Content::Bytes(text) = field.content {
                let text = std::str::from_utf8(text).map_err(|_| Fault::Broken)?;
                *(if field.number == 1 { &mut key } else { &mut value }) = text;
            }
        }
        let number = || value.parse::<usize>().map_err(|_| Fault::Broken);
        match key {
            "location" => self.file = value,
            "offset" => self.offset = number()?,
            "length" => self.length = Some(number()?),
            _ => {}
        }
        Ok(())
    }

    fn values(&self, folder: &Path) -> Result<Vec<f32>, Fault> {
        let file = folder.join(self.file);
        // ONNX Runtime, too, takes weights from the model's folder alone.
        if !Path::new(self.file).components().all(|part| matches!(part, Component::Normal(_))) {
            let message = "expected the weights of a model in its own folder";
            return Err(Fault::Data(InputError::new(&file, message)));
        }
        let short = || Fault::Data(InputError::new(&file, "ends before the weights that the model has in it"));
        let bytes = input::map(&file).map_err(Fault::Data)?;
        let bytes = bytes.get(self.offset..).ok_or_else(short)?;
        Ok(singles(bytes.get(..self.length.unwrap_or(bytes.len())).ok_or_else(short)?).collect())
    }
}

/// Widens one number.
const fn single(half: u16) -> f32 {
    f32::from_bits((half as u32) << 16)
}

fn singles(raw: &[u8]) -> impl Iterator<Item = f32> + '_ {
    raw.as_chunks::<2>().0.iter().map(|bytes| single(u16::from_le_bytes(*bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(fields: &[(u64, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (number, content) in fields {
            put_bytes(*number, content, &mut bytes);
        }
        bytes
    }

    /// A tensor in bfloat16 with these fields beside its type.
    fn tensor(dimension: u64, fields: &[(u64, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        put_field(1, dimension, &mut bytes);
        put_field(2, BFLOAT16, &mut bytes);
        bytes.extend(message(fields));
        bytes
    }

    /// A model with one initializer, a cast to bfloat16 in a branch, and an input in bfloat16.
    fn model(initializer: &[u8]) -> Vec<u8> {
        let mut to = message(&[(1, b"to")]);
        put_field(3, BFLOAT16, &mut to);
        // An axis of 16 is no type.
        let mut axis = message(&[(1, b"axis")]);
        put_field(3, 16, &mut axis);
        let cast = message(&[(4, b"Cast"), (5, &to), (5, &axis)]);
        let branch = message(&[(1, b"then"), (6, &message(&[(1, &cast)]))]);
        let mut element = Vec::new();
        put_field(1, BFLOAT16, &mut element);
        let input = message(&[(1, b"x"), (2, &message(&[(1, &element)]))]);
        message(&[(7, &message(&[(1, &message(&[(5, &branch)])), (5, initializer), (11, &input)]))])
    }

    fn widen(bytes: &[u8], folder: &Path) -> Widened {
        let file = folder.join("model.onnx");
        std::fs::write(&file, bytes).expect("a file");
        widened(&file).expect("a model").expect("in bfloat16")
    }

    #[test]
    fn types_casts_and_values_become_single_and_the_rest_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let raw = [0x80, 0x3f, 0x00, 0xc0]; // 1 and -2
        let found = widen(&model(&tensor(2, &[(8, b"w"), (9, &raw)])), folder.path());
        assert!(found.weights.is_empty() && !has_bfloat16(Message::Model, &found.model, DEEPEST).expect("a model"));
        let values: Vec<u8> = [1.0_f32, -2.0].iter().flat_map(|value| value.to_le_bytes()).collect();
        let mut expected = Vec::new();
        put_field(1, 2, &mut expected);
        put_field(2, FLOAT, &mut expected);
        expected.extend(message(&[(8, b"w"), (9, &values)]));
        let holds = |part: &[u8]| found.model.windows(part.len()).any(|window| window == part);
        assert!(holds(&expected));
        let mut axis = message(&[(1, b"axis")]);
        put_field(3, 16, &mut axis);
        assert!(holds(&axis), "a number that is no type stays");
        // The same values as numbers, packed.
        let mut packed = Vec::new();
        put_number(0x3f80, &mut packed);
        put_number(0xc000, &mut packed);
        let numbers = widen(&model(&tensor(2, &[(5, &packed), (8, b"w")])), folder.path());
        assert_eq!(numbers.model, found.model);
    }

    #[test]
    fn large_weights_are_handed_over_beside_the_model() {
        let folder = tempfile::tempdir().expect("a folder");
        let raw: Vec<u8> = (0..2000_u16).flat_map(|at| (0x3f80 + at % 7).to_le_bytes()).collect();
        let values: Vec<f32> = singles(&raw).collect();
        let found = widen(&model(&tensor(2000, &[(8, b"w"), (9, &raw)])), folder.path());
        assert_eq!(found.weights, [Weight { name: "w".into(), shape: vec![2000], values: values.clone() }]);
        // The same weight in a file of its own, behind eight other bytes.
        std::fs::write(folder.path().join("data"), [&[0; 8], &raw[..]].concat()).expect("a file");
        let entry = |key: &[u8], value: &[u8]| message(&[(1, key), (2, value)]);
        let places = [entry(b"location", b"data"), entry(b"offset", b"8"), entry(b"length", b"4000")];
        let mut external = tensor(2000, &[(8, b"w"), (13, &places[0]), (13, &places[1]), (13, &places[2])]);
        put_field(14, 1, &mut external);
        let from_file = widen(&model(&external), folder.path());
        assert_eq!((from_file.weights, &from_file.model), (found.weights, &found.model));
        std::fs::write(folder.path().join("data"), [0; 100]).expect("a file");
        std::fs::write(folder.path().join("model.onnx"), model(&external)).expect("a file");
        let short = widened(&folder.path().join("model.onnx")).expect_err("too short").to_string();
        assert!(short.contains("data") && short.contains("ends before"), "{short}");
        let mut elsewhere = tensor(2000, &[(8, b"w"), (13, &entry(b"location", b"../data"))]);
        put_field(14, 1, &mut elsewhere);
        std::fs::write(folder.path().join("model.onnx"), model(&elsewhere)).expect("a file");
        let refused = widened(&folder.path().join("model.onnx")).expect_err("elsewhere").to_string();
        assert!(refused.contains("in its own folder"), "{refused}");
    }

    #[test]
    fn other_models_and_other_files_are_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("model.onnx");
        for bytes in [&b"no model at all"[..], &[0xff; 40], &message(&[(7, b"")])] {
            std::fs::write(&file, bytes).expect("a file");
            assert!(widened(&file).expect("left alone").is_none());
        }
        // Graphs within graphs, beyond what a reader takes.
        let mut deep = Vec::new();
        for _ in 0..2000 {
            deep = message(&[(1, &message(&[(5, &message(&[(6, &deep)]))]))]);
        }
        std::fs::write(&file, message(&[(7, &deep)])).expect("a file");
        assert!(widened(&file).expect("left alone").is_none());
    }
}
