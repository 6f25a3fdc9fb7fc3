//! What the scheduler says of this task: its place in an array, its name, its GPUs, and when to stop.

mod array;
mod gpus;
mod ids;
mod kernels;
mod locks;
mod ranges;
mod signals;

pub use array::{ArrayTask, array_task};
pub use gpus::{DriverGpu, GpuList, address, driver_gpus, gpu_list};
pub use ids::{kept, task_id};
pub use kernels::{keep_kernels, leave_out_traces};
pub use locks::{Asked, GpuLock, LOCKS, Turn, lock_gpu, wait_for};
pub use ranges::ranges;
pub use signals::{StopRequest, outlive_file_size_limit};
