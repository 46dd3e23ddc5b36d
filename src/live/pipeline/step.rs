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
/// How far to go from what is said without the prompt towards what is said with it.
pub(super) const GUIDANCE: &str = "guidance";
/// Next noise level - this one.
pub(super) const DELTA: &str = "delta";
/// What the model's next input is scaled by.
pub(super) const SCALE: &str = "scale";
/// Latents after the step.
pub(super) const NEXT: &str = "next";
/// As the model takes them.
pub(super) const MODEL_INPUT: &str = "model_input";

const NAME: &str = "the denoising step";
/// An opset that every supported library has.
const OPSET: u32 = 18;

/// Builds the graph: `next = latents + delta * v`, where `v = free + guidance * (told - free)` or the
/// prediction itself; `model_input = next * scale`, once for each row the model takes.
pub(super) fn open(
    library: &Library,
    device: Device,
    guided: bool,
    prediction: TensorElementType,
    model_input: TensorElementType,
) -> Result<Onnx, Error> {
    let session = graph(guided, prediction, model_input).and_then(|graph| {
        let mut model = Model::new([Opset::new(ONNX_DOMAIN, OPSET)?])?;
        model.set_graph(graph)?;
        model.into_session(&builder(library, device)?)
    });
    let name = Path::new(NAME);
    Onnx::over(session.map_err(Error::session(name))?, name, device)
}

fn graph(guided: bool, prediction: TensorElementType, model_input: TensorElementType) -> ort::Result<Graph> {
    let mut graph = Graph::new()?;
    let mut inputs = vec![
        tensor(LATENTS, TensorElementType::Float32, 4),
        tensor(PREDICTION, prediction, 4),
        tensor(DELTA, TensorElementType::Float32, 0),
        tensor(SCALE, TensorElementType::Float32, 0),
    ];
    inputs.extend(guided.then(|| tensor(GUIDANCE, TensorElementType::Float32, 0)));
    graph.set_inputs(inputs)?;
    graph.set_outputs([tensor(NEXT, TensorElementType::Float32, 4), tensor(MODEL_INPUT, model_input, 4)])?;
    let mut node = |operator: &str, inputs: &[&str], outputs: &[&str], attributes: Vec<Attribute>| {
        graph.add_node(Node::new(operator, ONNX_DOMAIN, outputs[0], inputs, outputs, attributes)?)
    };
    let cast = |to: TensorElementType| Ok::<_, ort::Error>(vec![Attribute::new("to", i64::from(onnx_type(to)))?]);
    node("Cast", &[PREDICTION], &["said"], cast(TensorElementType::Float32)?)?;
    let velocity = if guided {
        node(
            "Split",
            &["said"],
            &["free", "told"],
            vec![Attribute::new("axis", 0_i64)?, Attribute::new("num_outputs", 2_i64)?],
        )?;
        node("Sub", &["told", "free"], &["difference"], vec![])?;
        node("Mul", &["difference", GUIDANCE], &["pull"], vec![])?;
        node("Add", &["free", "pull"], &["velocity"], vec![])?;
        "velocity"
    } else {
        "said"
    };
    node("Mul", &[velocity, DELTA], &["move"], vec![])?;
    node("Add", &[LATENTS, "move"], &[NEXT], vec![])?;
    node("Mul", &[NEXT, SCALE], &["scaled"], vec![])?;
    if guided {
        node("Cast", &["scaled"], &["one"], cast(model_input)?)?;
        node("Concat", &["one", "one"], &[MODEL_INPUT], vec![Attribute::new("axis", 0_i64)?])?;
    } else {
        node("Cast", &["scaled"], &[MODEL_INPUT], cast(model_input)?)?;
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
