//! Graph of the denoising step: guidance, the step from one noise level to the next (Euler's, or one of second order),
//! and the model's next input. The graph is built here and runs in ONNX Runtime on the model's device, so that the
//! latents stay on the device.

use std::path::Path;

use ort::editor::{Graph, Model, Node, ONNX_DOMAIN, Opset};
use ort::operator::Attribute;
use ort::value::{Outlet, Shape, SymbolicDimensions, TensorElementType, ValueType};

use super::super::error::Error;
use super::super::library::Library;
use super::super::onnx::{Onnx, builder};
use super::super::settings::Device;

/// Input: latents before the step, `[n, c, h, w]`, or `[n, tokens, width]` if they are packed, f32.
pub(super) const LATENTS: &str = "latents";
/// Input: prediction of the model. With guidance it has twice as many rows, and those without a prompt come first.
pub(super) const PREDICTION: &str = "prediction";
/// Input: factor of the prediction with the prompt. It is the change of the noise level, or the way to level 0 in a
/// step of second order, times the guidance scale if there is guidance.
pub(super) const TOLD: &str = "told";
/// Input, only with guidance: factor of the prediction without the prompt. It is the same change, times 1 minus the
/// guidance scale.
pub(super) const FREE: &str = "free";
/// Input: factor of the model's next input, for models whose input is scaled.
pub(super) const SCALE: &str = "scale";
/// Input, only in steps of second order: estimate of the picture from the step before.
pub(super) const BEFORE: &str = "before";
/// Inputs, only in steps of second order: factors of the latents, the estimate, and the estimate before.
pub(super) const BLEND: [&str; 3] = ["of latents", "of estimate", "of before"];
/// Output, only in steps of second order: estimate of the picture.
pub(super) const ESTIMATE: &str = "estimate";
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
    /// True if the step is of second order.
    pub(super) second_order: bool,
    /// Number of dimensions of the latents: 4, or 3 if they are packed.
    pub(super) rank: usize,
    /// Precision of the model's prediction.
    pub(super) prediction: TensorElementType,
    /// Precision of the model's input.
    pub(super) model_input: TensorElementType,
}

/// Builds the graph and opens a session on it. With guidance `next = latents + FREE * free + TOLD * told`, of the two
/// halves of the prediction. Without guidance `next = latents + TOLD * prediction`. In a step of second order this sum
/// is the estimate of the picture, and `next` is a blend of latents, estimate and estimate before. The next input of
/// the model is `model_input = next * scale`, once for each row that the model takes.
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
    let rank = form.rank;
    let mut inputs =
        vec![tensor(LATENTS, single, rank), tensor(PREDICTION, form.prediction, rank), tensor(TOLD, single, 0)];
    inputs.extend(form.guided.then(|| tensor(FREE, single, 0)));
    inputs.extend(form.scaled.then(|| tensor(SCALE, single, 0)));
    let mut outputs = vec![tensor(NEXT, single, rank), tensor(MODEL_INPUT, form.model_input, rank)];
    if form.second_order {
        inputs.push(tensor(BEFORE, single, rank));
        inputs.extend(BLEND.map(|name| tensor(name, single, 0)));
        outputs.push(tensor(ESTIMATE, single, rank));
    }
    graph.set_inputs(inputs)?;
    graph.set_outputs(outputs)?;
    let mut node = |operator: &str, inputs: &[&str], outputs: &[&str], attributes: Vec<Attribute>| {
        graph.add_node(Node::new(operator, ONNX_DOMAIN, outputs[0], inputs, outputs, attributes)?)
    };
    let cast = |to: TensorElementType| Ok::<_, ort::Error>(vec![Attribute::new("to", i64::from(onnx_type(to)))?]);
    let mut said = PREDICTION;
    if form.prediction != single {
        node("Cast", &[said], &["single"], cast(single)?)?;
        said = "single";
    }
    let moved = if form.second_order { ESTIMATE } else { NEXT };
    if form.guided {
        let halves = vec![Attribute::new("axis", 0_i64)?, Attribute::new("num_outputs", 2_i64)?];
        node("Split", &[said], &["said free", "said told"], halves)?;
        node("Mul", &["said free", FREE], &["move free"], vec![])?;
        node("Mul", &["said told", TOLD], &["move told"], vec![])?;
        // `Sum` takes three inputs, where `Add` would need two nodes.
        node("Sum", &[LATENTS, "move free", "move told"], &[moved], vec![])?;
    } else {
        node("Mul", &[said, TOLD], &["move"], vec![])?;
        node("Add", &[LATENTS, "move"], &[moved], vec![])?;
    }
    if form.second_order {
        let shares = [(LATENTS, "share of latents"), (ESTIMATE, "share of estimate"), (BEFORE, "share of before")];
        for ((value, share), factor) in shares.into_iter().zip(BLEND) {
            node("Mul", &[value, factor], &[share], vec![])?;
        }
        node("Sum", &shares.map(|(_, share)| share), &[NEXT], vec![])?;
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
