//! Session of an ONNX model on a device, with inputs and outputs bound to the memory of the device; and the conversions
//! between tensors and numbers that models need. Nothing here depends on a particular model.

use std::path::{Path, PathBuf};

use half::{bf16, f16};
use ort::ep::CUDA;
use ort::memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType};
use ort::session::builder::SessionBuilder;
use ort::session::{IoBinding, Session};
use ort::value::{DynTensor, Outlet, Tensor, TensorElementType};

use super::bfloat16::{Weight, Widened, widened};
use super::error::Error;
use super::library::Library;
use super::settings::{Device, Processor};

/// Option of ONNX Runtime: the folder of weights outside a model that comes from memory.
const EXTERNAL_FOLDER: &str = "session.model_external_initializers_file_folder_path";

/// Session of a model, with the model's file and the memory of its device.
#[derive(Debug)]
pub(super) struct Onnx {
    pub(super) file: PathBuf,
    session: Session,
    /// Binding that [`Onnx::run`] uses.
    binding: IoBinding,
    memory: MemoryInfo<'static>,
}

impl Onnx {
    /// Loads a model onto a device.
    pub(super) fn open(library: &Library, file: &Path, device: Device) -> Result<Self, Error> {
        if !file.is_file() {
            let unreadable = std::fs::File::open(file).err().unwrap_or_else(|| std::io::ErrorKind::IsADirectory.into());
            return Err(crate::input::InputError::unreadable(file, &unreadable).into());
        }
        // The CPU provider has no arithmetic in bfloat16.
        let widened = if device.processor == Processor::Cpu { widened(file)? } else { None };
        let session = builder(library, device).and_then(|mut builder| match widened {
            Some(widened) => widened_session(builder, file, widened),
            None => builder.commit_from_file(file),
        });
        Self::over(session.map_err(Error::session(file))?, file, device)
    }

    /// Wraps a session that was made elsewhere. Errors name the session by `file`.
    pub(super) fn over(session: Session, file: &Path, device: Device) -> Result<Self, Error> {
        let failed = Error::session(file);
        let place = if device.processor == Processor::Cuda { AllocationDevice::CUDA } else { AllocationDevice::CPU };
        // The number of a CPU only tells workers apart. ONNX Runtime knows CPU 0 alone.
        let number = if device.processor == Processor::Cuda { i32::from(device.number) } else { 0 };
        let memory = MemoryInfo::new(place, number, AllocatorType::Device, MemoryType::Default).map_err(&failed)?;
        let binding = session.create_binding().map_err(&failed)?;
        Ok(Self { file: file.to_owned(), session, binding, memory })
    }

    pub(super) fn has_input(&self, name: &str) -> bool {
        outlet(self.session.inputs(), name).is_some()
    }

    /// Returns the element type of an input.
    pub(super) fn input_type(&self, name: &str) -> Result<TensorElementType, Error> {
        self.type_of(self.session.inputs(), name, "input")
    }

    /// Returns the element type of an output.
    pub(super) fn output_type(&self, name: &str) -> Result<TensorElementType, Error> {
        self.type_of(self.session.outputs(), name, "output")
    }

    fn type_of(&self, outlets: &[Outlet], name: &str, what: &str) -> Result<TensorElementType, Error> {
        outlet(outlets, name).and_then(|outlet| outlet.dtype().tensor_type()).ok_or_else(|| {
            let names: Vec<&str> = outlets.iter().map(Outlet::name).collect();
            Error::model(&self.file, format!("has no {what} `{name}`; it has {}", names.join(", ")))
        })
    }

    /// Returns the dimensions of an input, with -1 for a dimension that varies.
    pub(super) fn input_shape(&self, name: &str) -> Option<Vec<i64>> {
        Some(outlet(self.session.inputs(), name)?.dtype().tensor_shape()?.to_vec())
    }

    pub(super) fn output_names(&self) -> impl Iterator<Item = &str> {
        self.session.outputs().iter().map(Outlet::name)
    }

    /// Allocates memory of the device for a tensor that is written again and again.
    pub(super) fn allocate(&self, element: TensorElementType, shape: &[usize]) -> Result<DynTensor, Error> {
        let failed = Error::session(&self.file);
        let allocator = Allocator::new(&self.session, self.memory.to_owned()).map_err(&failed)?;
        DynTensor::new(&allocator, element, shape.to_vec()).map_err(&failed)
    }

    /// Makes a separate binding, for a loop whose inputs change little from run to run.
    pub(super) fn binding(&self) -> Result<IoBinding, Error> {
        self.session.create_binding().map_err(Error::session(&self.file))
    }

    /// Runs the model with the inputs and outputs of a binding.
    pub(super) fn run_bound(&mut self, binding: &IoBinding) -> Result<(), Error> {
        self.session.run_binding(binding).map(|_| ()).map_err(Error::session(&self.file))
    }

    /// Runs the model once. The outputs come to the host if `to_host` is true; otherwise they stay on the device.
    pub(super) fn run(
        &mut self,
        inputs: &[(&str, &DynTensor)],
        outputs: &[&str],
        to_host: bool,
    ) -> Result<Vec<DynTensor>, Error> {
        let failed = Error::session(&self.file);
        let host =
            MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Device, MemoryType::Default).map_err(&failed)?;
        // A run that failed leaves its tensors bound.
        self.binding.clear();
        for (name, value) in inputs {
            self.binding.bind_input(*name, value).map_err(&failed)?;
        }
        for name in outputs {
            self.binding.bind_output_to_device(*name, if to_host { &host } else { &self.memory }).map_err(&failed)?;
        }
        let mut results = self.session.run_binding(&self.binding).map_err(&failed)?;
        let taken = outputs.iter().map(|name| {
            let value =
                results.remove(name).ok_or_else(|| Error::model(&self.file, format!("gave no output `{name}`")))?;
            value.downcast().map_err(&failed)
        });
        let taken = taken.collect();
        drop(results);
        // The binding keeps its tensors alive, and no tensor must outlive its run.
        self.binding.clear();
        taken
    }
}

/// Opens a session on a model that was widened in memory. `file` is the file that it was read from.
fn widened_session(mut builder: SessionBuilder, file: &Path, widened: Widened) -> ort::Result<Session> {
    // Weights that stay in another file are looked for in the folder of the model.
    let folder = file.parent().unwrap_or(Path::new("."));
    builder = builder.with_config_entry(EXTERNAL_FOLDER, folder.to_string_lossy())?;
    for Weight { name, shape, values } in widened.weights {
        let value = Tensor::from_array((shape, values))?.into_dyn();
        builder = builder.with_external_initializer(name, value)?;
    }
    builder.commit_from_memory(&widened.model)
}

fn outlet<'a>(outlets: &'a [Outlet], name: &str) -> Option<&'a Outlet> {
    outlets.iter().find(|outlet| outlet.name() == name)
}

/// Makes the options of every session. A CPU worker uses only its own threads, and does not spin while it waits for
/// work, because other workers could use the processor. A CUDA provider that does not start is an error.
pub(super) fn builder(library: &Library, device: Device) -> Result<SessionBuilder, ort::Error> {
    let builder = Session::builder(&library.environment)?
        .with_intra_threads(usize::from(device.threads))?
        .with_inter_threads(1)?
        .with_intra_op_spinning(false)?
        .with_inter_op_spinning(false)?;
    match device.processor {
        Processor::Cpu => Ok(builder),
        Processor::Cuda => {
            // TF32 is off, so that a GPU draws what the CPU draws.
            let cuda = CUDA::default().with_device_id(i32::from(device.number)).with_tf32(false);
            let cuda = match device.memory_gb {
                Some(memory) => cuda.with_memory_limit((memory * 1e9) as usize),
                None => cuda,
            };
            Ok(builder.with_execution_providers([cuda.build().error_on_failure()])?)
        }
    }
}

/// Makes a tensor of these values in the element type that a model takes.
pub(super) fn floats(element: TensorElementType, shape: &[usize], values: Vec<f32>) -> Result<DynTensor, Error> {
    let made = match element {
        TensorElementType::Float16 => {
            let halves: Vec<f16> = values.into_iter().map(f16::from_f32).collect();
            Tensor::from_array((shape.to_vec(), halves)).map(Tensor::upcast)
        }
        TensorElementType::Bfloat16 => {
            let halves: Vec<bf16> = values.into_iter().map(bf16::from_f32).collect();
            Tensor::from_array((shape.to_vec(), halves)).map(Tensor::upcast)
        }
        // Some exports take the timestep as a whole number, and masks are whole numbers.
        TensorElementType::Int64 => {
            let whole: Vec<i64> = values.into_iter().map(|value| value as i64).collect();
            Tensor::from_array((shape.to_vec(), whole)).map(Tensor::upcast)
        }
        _ => Tensor::from_array((shape.to_vec(), values)).map(Tensor::upcast),
    };
    made.map_err(Error::session(Path::new("a tensor")))
}

/// Makes a tensor of token numbers in the width that a model takes.
pub(super) fn tokens(element: TensorElementType, shape: &[usize], values: &[u32]) -> Result<DynTensor, Error> {
    let made = if element == TensorElementType::Int32 {
        let values: Vec<i32> = values.iter().map(|&token| token.cast_signed()).collect();
        Tensor::from_array((shape.to_vec(), values)).map(Tensor::upcast)
    } else {
        let values: Vec<i64> = values.iter().map(|&token| i64::from(token)).collect();
        Tensor::from_array((shape.to_vec(), values)).map(Tensor::upcast)
    };
    made.map_err(Error::session(Path::new("a tensor")))
}

/// Refuses values that are NaN or infinite. `file` is the file of the model that gave the values, and `place` the place
/// in its computation. `advice` says what to do, beginning with a semicolon.
pub(super) fn check_finite(
    file: &Path,
    values: &[f32],
    advice: &'static str,
    place: impl FnOnce() -> String,
) -> Result<(), Error> {
    // The loop does not end early, so that compilers compare several values at once.
    if values.iter().fold(true, |all, value| all & value.is_finite()) {
        return Ok(());
    }
    Err(Error::NotFinite { file: file.to_owned(), place: place(), advice })
}

/// Returns the advice for values that are not finite, by the precision in which the values were given.
pub(super) const fn precision_advice(element: TensorElementType) -> &'static str {
    match element {
        TensorElementType::Float16 => "; half precision overflows: export it in fp32",
        _ => "",
    }
}

/// Returns the dimensions of a tensor.
pub(super) fn shape(tensor: &DynTensor) -> Vec<usize> {
    tensor.shape().iter().map(|&side| side as usize).collect()
}

/// Returns the numbers of a tensor of floats, copied to the host if they are not there.
pub(super) fn numbers(tensor: &DynTensor) -> Result<Vec<f32>, Error> {
    let failed = Error::session(Path::new("a tensor"));
    if !tensor.memory_info().is_cpu_accessible() {
        return numbers(&tensor.to(AllocationDevice::CPU, 0).map_err(&failed)?);
    }
    match tensor.data_type() {
        TensorElementType::Float16 => {
            let (_, halves) = tensor.try_extract_tensor::<f16>().map_err(&failed)?;
            Ok(halves.iter().map(|half| half.to_f32()).collect())
        }
        TensorElementType::Bfloat16 => {
            let (_, halves) = tensor.try_extract_tensor::<bf16>().map_err(&failed)?;
            Ok(halves.iter().map(|half| half.to_f32()).collect())
        }
        _ => Ok(tensor.try_extract_tensor::<f32>().map_err(&failed)?.1.to_vec()),
    }
}
