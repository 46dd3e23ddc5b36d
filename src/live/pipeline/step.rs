//! A graph of our own: guidance and Euler's step from one noise level to the next, and the model's next
//! input. It runs in ONNX Runtime where the model runs, so that nothing leaves the device.

use std::path::Path;

use ort::editor::{Graph, Model, Node, ONNX_DOMAIN, Opset};
use ort::operator::Attribute;
use ort::value::{Outlet, Shape, SymbolicDimensions, TensorElementType, ValueType};

use super::super::error::Error;
use super::super::library::Library;
use super::super::onnx::{Onnx, builder};
use super::super::settings::Device;

/// `[n, c, h, w]`, f32.
pub(super) const LATENTS: &str = "latents";
/// What the model said: with guidance `[2 n, c, h, w]`, the rows without a prompt first.
pub(super) const PREDICTION: &str = "prediction";
/// How far to go along what is said with the prompt: noise level difference, times guidance if there is any.
pub(super) const TOLD: &str = "told";
/// With guidance, how far along what is said without it: noise level difference times 1 - guidance.
pub(super) const FREE: &str = "free";
/// What the model's next input is scaled by, for models that want it scaled.
pub(super) const SCALE: &str = "scale";
/// Latents after the step.
pub(super) const NEXT: &str = "next";
/// As the model takes them.
pub(super) const MODEL_INPUT: &str = "model_input";

const NAME: &str = "the denoising step";
/// An opset that every supported library has.
const OPSET: u32 = 18;

/// Which of its parts a step has. There are no more nodes than it needs: each costs microseconds, and a step of a
/// small model a thousand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    /// The model runs with and without the prompt, and the step goes beyond their difference.
    pub(super) guided: bool,
    /// The model's input is scaled by its noise level.
    pub(super) scaled: bool,
    /// Precision of what the model says.
    pub(super) prediction: TensorElementType,
    /// Precision of what the model takes.
    pub(super) model_input: TensorElementType,
}

/// Builds the graph: `next = latents + FREE * free + TOLD * told`, of the halves of the prediction, or
/// `latents + TOLD * prediction`; `model_input = next * scale`, once for each row the model takes.
pub(super) fn open(library: &Library, device: Device, form: Form) -> Result<Onnx, Error> {
    let session = graph(form).and_then(|graph| {
        let mut model = Model::new([Opset::new(ONNX_DOMAIN, OPSET)?])?;
        model.set_graph(graph)?;
        model.into_session(&builder(library, device)?)
    });
    let name = Path::new(NAME);
    Onnx::over(session.map_err(Error::session(name))?, name, device)
}

fn graph(form: Form) -> ort::Result<Graph> {
    let single = TensorElementType::Float32;
    let mut graph = Graph::new()?;
    let mut inputs = vec![tensor(LATENTS, single, 4), tensor(PREDICTION, form.prediction, 4), tensor(TOLD, single, 0)];
    inputs.extend(form.guided.then(|| tensor(FREE, single, 0)));
    inputs.extend(form.scaled.then(|| tensor(SCALE, single, 0)));
    graph.set_inputs(inputs)?;
    graph.set_outputs([tensor(NEXT, single, 4), tensor(MODEL_INPUT, form.model_input, 4)])?;
    let mut node = |operator: &str, inputs: &[&str], outputs: &[&str], attributes: Vec<Attribute>| {
        graph.add_node(Node::new(operator, ONNX_DOMAIN, outputs[0], inputs, outputs, attributes)?)
    };
    let cast = |to: TensorElementType| Ok::<_, ort::Error>(vec![Attribute::new("to", i64::from(onnx_type(to)))?]);
    let mut said = PREDICTION;
    if form.prediction != single {
        node("Cast", &[said], &["single"], cast(single)?)?;
        said = "single";
    }
    if form.guided {
        let halves = vec![Attribute::new("axis", 0_i64)?, Attribute::new("num_outputs", 2_i64)?];
        node("Split", &[said], &["said free", "said told"], halves)?;
        node("Mul", &["said free", FREE], &["move free"], vec![])?;
        node("Mul", &["said told", TOLD], &["move told"], vec![])?;
        node("Sum", &[LATENTS, "move free", "move told"], &[NEXT], vec![])?;
    } else {
        node("Mul", &[said, TOLD], &["move"], vec![])?;
        node("Add", &[LATENTS, "move"], &[NEXT], vec![])?;
    }
    let mut next = NEXT;
    if form.scaled {
        node("Mul", &[next, SCALE], &["scaled"], vec![])?;
        next = "scaled";
    }
    if form.model_input != single {
        node("Cast", &[next], &["as taken"], cast(form.model_input)?)?;
        next = "as taken";
    }
    if form.guided {
        node("Concat", &[next, next], &[MODEL_INPUT], vec![Attribute::new("axis", 0_i64)?])?;
    } else {
        node("Identity", &[next], &[MODEL_INPUT], vec![])?;
    }
    Ok(graph)
}

fn tensor(name: &str, ty: TensorElementType, rank: usize) -> Outlet {
    let shape = Shape::new(std::iter::repeat_n(-1, rank));
    Outlet::new(name, ValueType::Tensor { ty, shape, dimension_symbols: SymbolicDimensions::empty(rank) })
}

/// The numbers that ONNX gives to element types.
const fn onnx_type(element: TensorElementType) -> i32 {
    match element {
        TensorElementType::Float16 => 10,
        TensorElementType::Float64 => 11,
        TensorElementType::Bfloat16 => 16,
        _ => 1,
    }
}
