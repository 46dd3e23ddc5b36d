//! Graph of the denoising step: guidance, Euler's step from one noise level to the next, and the model's next input.
//! The graph is built here and runs in ONNX Runtime on the model's device, so that the latents stay on the device.

use std::path::Path;

use ort::editor::{Graph, Model, Node, ONNX_DOMAIN, Opset};
use ort::operator::Attribute;
use ort::value::{Outlet, Shape, SymbolicDimensions, TensorElementType, ValueType};

use super::super::error::Error;
use super::super::library::Library;
use super::super::onnx::{Onnx, builder};
use super::super::settings::Device;

/// Input: latents before the step, `[n, c, h, w]`, f32.
pub(super) const LATENTS: &str = "latents";
/// Input: prediction of the model. With guidance its shape is `[2 n, c, h, w]`, and the rows without a prompt come
/// first.
pub(super) const PREDICTION: &str = "prediction";
/// Input: factor of the prediction with the prompt. It is the change of the noise level, times the guidance scale if
/// there is guidance.
pub(super) const TOLD: &str = "told";
/// Input, only with guidance: factor of the prediction without the prompt. It is the change of the noise level, times 1
/// minus the guidance scale.
pub(super) const FREE: &str = "free";
/// Input: factor of the model's next input, for models whose input is scaled.
pub(super) const SCALE: &str = "scale";
/// Output: latents after the step.
pub(super) const NEXT: &str = "next";
/// Output: next input of the model, in the model's precision.
pub(super) const MODEL_INPUT: &str = "model_input";

const NAME: &str = "the denoising step";
/// Opset that every supported library has.
// `Split` has `num_outputs` from this opset on.
const OPSET: u32 = 18;

/// Parts of a step's graph. The graph has no more nodes than it needs: each node costs microseconds, and a step of a
/// small model takes about a thousand microseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    /// True if the model runs with and without the prompt, and the step extrapolates along the difference of the two
    /// predictions.
    pub(super) guided: bool,
    /// True if the model's input is scaled by its noise level.
    pub(super) scaled: bool,
    /// Precision of the model's prediction.
    pub(super) prediction: TensorElementType,
    /// Precision of the model's input.
    pub(super) model_input: TensorElementType,
}

/// Builds the graph and opens a session on it. With guidance `next = latents + FREE * free + TOLD * told`, of the two
/// halves of the prediction. Without guidance `next = latents + TOLD * prediction`. The next input of the model is
/// `model_input = next * scale`, once for each row that the model takes.
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
        // `Sum` takes three inputs, where `Add` would need two nodes.
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
        // An output has one name, and the latents are the output `NEXT` already.
        node("Identity", &[next], &[MODEL_INPUT], vec![])?;
    }
    Ok(graph)
}

fn tensor(name: &str, ty: TensorElementType, rank: usize) -> Outlet {
    let shape = Shape::new(std::iter::repeat_n(-1, rank));
    Outlet::new(name, ValueType::Tensor { ty, shape, dimension_symbols: SymbolicDimensions::empty(rank) })
}

/// Returns the number of an element type in ONNX.
const fn onnx_type(element: TensorElementType) -> i32 {
    match element {
        TensorElementType::Float16 => 10,
        TensorElementType::Float64 => 11,
        TensorElementType::Bfloat16 => 16,
        _ => 1,
    }
}
