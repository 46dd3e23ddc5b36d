//! Every key of a scenario with values of the wrong type and out of range, given in the file, by `--set`
//! and by a variant.

use super::folder::{SCENARIO, SYNTHETIC, all, rows, simulate, spoiled, with_line};

/// A value a line with its message, which names it; after `=>` where it names something else.
const SERVED: &str = r#"
name = 5: expected text in quotes
name = "": expected a name
name = ["a"]: expected text in quotes
seed = "x": expected a whole number from 0
seed = -1: expected a whole number from 0
seed = 1.5: expected a whole number from 0
seed = 9223372036854775807: expected a whole number from 0 to 9007199254740992 (2^53)
trace.requests = 5: expected a path in quotes
trace.requests = ["a"]: expected a path in quotes
trace.prompt_embeddings = 5: expected a path in quotes
trace.prompt_embeddings = ["a"]: expected a path in quotes
trace.image_embeddings = 5: expected a path in quotes
trace.image_embeddings = ["a"]: expected a path in quotes
trace.warm_images = 5: expected a path in quotes
trace.warm_images = ["a"]: expected a path in quotes
cluster.gpus = 5: expected an array: [ ... ]
cluster.gpus = "gpu": expected an array: [ ... ]
cluster.gpus = [] => cluster.gpus = 0 in all: expected from 1 to 65535 GPUs in all
cluster.gpus = [5] => cluster.gpus.0 = 5: expected a table of keys
cluster.gpus = [["gpu", 1]] => cluster.gpus.0 = ["gpu", 1]: expected a table of keys
cluster.gpus = [{ count = 1 }] => cluster.gpus.0.type: is missing
cluster.gpus = [{ type = "gpu" }] => cluster.gpus.0.count: is missing
cluster.gpus = [{ type = 5, count = 1 }] => cluster.gpus.0.type = 5: expected text in quotes
cluster.gpus = [{ type = "gpu", count = 0 }] => cluster.gpus.0.count = 0: expected at least 1
cluster.gpus = [{ type = "gpu", count = -1 }] => cluster.gpus.0.count = -1: expected a whole number from 0 to 4294967295
cluster.gpus = [{ type = "gpu", count = 1.5 }] => cluster.gpus.0.count = 1.5: expected a whole number from 0 to 4294967295
cluster.gpus = [{ type = "gpu", count = "x" }] => cluster.gpus.0.count = "x": expected a whole number from 0 to 4294967295
cluster.gpus = [{ type = "gpu", count = 65536 }] => cluster.gpus = 65536 in all: expected from 1 to 65535 GPUs in all
cluster.gpus = [{ type = "gpu", count = 4294967295 }, { type = "gpu", count = 4294967295 }] => cluster.gpus = 8589934590 in all: expected from 1 to 65535 GPUs in all
cluster.gpus = [{ type = "gpu", count = 1, usd_per_hour = nan }] => cluster.gpus.0.usd_per_hour = nan: expected dollars from 0 to 1000000
cluster.gpus = [{ type = "gpu", count = 1, usd_per_hour = -1 }] => cluster.gpus.0.usd_per_hour = -1: expected dollars from 0 to 1000000
cluster.gpus = [{ type = "gpu", count = 1, usd_per_hour = "x" }] => cluster.gpus.0.usd_per_hour = "x": expected a number
cluster.gpus = [{ type = "gpu", count = 1, colour = 1 }] => cluster.gpus.0.colour = 1: is not a key here: expected one of type, count, node, usd_per_hour
models.profile = 5: expected a path in quotes
models.large = 5: expected text in quotes
models.large = ["large"]: expected text in quotes
models.small = 5: expected an array: [ ... ]
models.small = "small": expected an array: [ ... ]
models.small = [5] => models.small.0 = 5: expected text in quotes
models.small = []: the monitor needs a small model: name one, or set allocation.policy = "static"
models.small = ["small", "small"] => models.small = "small": is in the list of models twice
models.small = ["large"] => models.small = "large": is in the list of models twice
models.steps = "x": expected a whole number from 0 to 4294967295
models.steps = 0: expected a number of denoising steps from 1 to 100000
models.steps = -1: expected a whole number from 0 to 4294967295
models.steps = 1.5: expected a whole number from 0 to 4294967295
models.steps = 100001: expected a number of denoising steps from 1 to 100000
models.steps = 4294967296: expected a whole number from 0 to 4294967295
models.steps = nan: expected a whole number from 0 to 4294967295
models.steps = {} => models.steps: has no number for large: give one for each model, or one for all
models.steps = { large = 50 } => models.steps: has no number for small: give one for each model, or one for all
models.steps = { large = 50, small = 0 } => models.steps.small = 0: expected a number of denoising steps from 1 to 100000
models.steps = { large = 50, small = "x" } => models.steps.small = "x": expected a whole number from 0 to 4294967295
models.steps = { large = 50, small = 100001 } => models.steps.small = 100001: expected a number of denoising steps from 1 to 100000
models.schedule = 5: expected a table of keys
models.schedule = {} => models.schedule: has none for large: give one for each model, or none
models.schedule = { large = { shift = 3.0 } } => models.schedule: has none for small: give one for each model, or none
models.schedule = { large = { shift = 0 }, small = { shift = 1 } } => models.schedule.large.shift = 0: expected a shift from 0.01 to 100; 1 for none
models.schedule = { large = { shift = nan }, small = { shift = 1 } } => models.schedule.large.shift = nan: expected a shift from 0.01 to 100; 1 for none
models.size = 5: expected an array of length 2
models.size = [64]: expected an array of length 2
models.size = [0, 64] => models.size = 0: expected pixels from 1 to 65535
models.size = [64, 65536] => models.size.1 = 65536: expected a whole number from 0 to 65535
system.policy = 5: expected a word in quotes
system.policy = "modn": expected one of "vanilla", "nirvana", "pinecone", "cascade", "modm"
system.policy = "MODM": expected one of "vanilla", "nirvana", "pinecone", "cascade", "modm"
system.policy = "": expected one of "vanilla", "nirvana", "pinecone", "cascade", "modm"
system.bounds = 5: expected an array: [ ... ]
system.bounds = "x": expected an array: [ ... ]
system.bounds = []: expected at least one [similarity, skipped steps]
system.bounds = [5] => system.bounds.0 = 5: expected a pair: [number, number]
system.bounds = [[0.25]] => system.bounds.0 = [0.25]: expected a pair: [number, number]
system.bounds = [[0.25, 5, 5]] => system.bounds.0 = [0.25, 5, 5]: expected fewer values
system.bounds = [["x", 5]] => system.bounds.0.0 = "x": expected a number
system.bounds = [[0.25, "x"]] => system.bounds.0.1 = "x": expected a whole number from 0 to 4294967295
system.bounds = [[0.25, 1.5]] => system.bounds.0.1 = 1.5: expected a whole number from 0 to 4294967295
system.bounds = [[0.25, -1]] => system.bounds.0.1 = -1: expected a whole number from 0 to 4294967295
system.bounds = [[0.25, 50]] => system.bounds.0 = [0.25, 50]: expected skipped steps from 0 to 49 (models.steps - 1)
system.bounds = [[nan, 5]] => system.bounds.0 = [NaN, 5]: expected a similarity from -1 to 1
system.bounds = [[inf, 5]] => system.bounds.0 = [inf, 5]: expected a similarity from -1 to 1
system.bounds = [[1.5, 5]] => system.bounds.0 = [1.5, 5]: expected a similarity from -1 to 1
system.bounds = [[-1.5, 5]] => system.bounds.0 = [-1.5, 5]: expected a similarity from -1 to 1
system.bounds = [[0.3, 5], [0.25, 10]] => system.bounds.1 = [0.25, 10]: bounds rise strictly: expected more than the one before
system.bounds = [[0.3, 5], [0.3, 10]] => system.bounds.1 = [0.3, 10]: bounds rise strictly: expected more than the one before
"#;

/// As above.
const SERVING: &str = r#"
retrieval.latency_s = "x": expected a number
retrieval.latency_s = nan: expected seconds from 0 to ten years
retrieval.latency_s = inf: expected seconds from 0 to ten years
retrieval.latency_s = -1: expected seconds from 0 to ten years
retrieval.latency_s = 1e300: expected seconds from 0 to ten years
retrieval.latency_s = true: expected a number
retrieval.image_latency_s = "x": expected a number
retrieval.image_latency_s = nan: expected seconds from 0 to ten years
retrieval.image_latency_s = -1: expected seconds from 0 to ten years
retrieval.index = 5: expected a word in quotes
retrieval.index = "faiss": expected one of "exact", "faiss-flat", "faiss-ivf", "faiss-ivf-sq8", "faiss-hnsw"
retrieval.measure_recall = 5: expected true or false
live.encoder = 5: expected a path in quotes
live.devices = "cpu:0": expected an array: [ ... ]
live.devices = ["cpu:0", 5] => live.devices.1 = 5: expected text in quotes
live.devices = ["cpu:0", "gpu:0"] => live.devices.1 = "gpu:0": expected a device such as "cpu:0", "cpu:0,threads=2", "cuda:0" or "cuda:0,memory_gb=20"
live.devices = ["cpu:0", "cuda:0,threads=2"] => live.devices.1 = "cuda:0,threads=2": expected a device such as "cpu:0", "cpu:0,threads=2", "cuda:0" or "cuda:0,memory_gb=20"
live.encoder_device = "cpu:0,threads=0": expected threads from 1 to 1024
live.encoder_device = "cuda:0,memory_gb=0": expected memory_gb above 0, at most 1000000
live.size = [64]: expected an array of length 2
live.size = [0, 64] => live.size = [0, 64]: expected [width, height] from 1 to 16384 pixels
live.images = "gif": expected "png" or "jpeg"
live.isolation = "fork": expected "process" or "thread"
live.limits.factor = 0.5: expected a factor from 1 to 1000000
live.limits.step_s = 0: expected seconds, from 0.1 to 86400
live.limits.load_s = nan: expected seconds, from 0.1 to 86400
live.limits.encode_s = "x": expected a number
live.limits.disk_s = 1000000.0: expected seconds, from 0.1 to 86400
live.guidance.large = -1: expected a scale from 0 to 1000
live.checkpoints = { " a" = { large = "x" } } => live.checkpoints = " a": expected a name that does not begin or end with spaces, as requests write it
live.checkpoints = { a = "x" } => live.checkpoints.a = "x": expected a table of keys
live.checkpoints = { a = { large = 5 } } => live.checkpoints.a.large = 5: expected a path in quotes
live.guidance.large = nan: expected a scale from 0 to 1000
serve.listen = "nowhere": expected an address or a name, and a port, such as 127.0.0.1:8080 or localhost:8080
serve.aliases = { a = "x" } => serve.aliases.a = "x": stands for no model: expected auto, large, small
serve.aliases = { modm = "auto" } => serve.aliases.modm = "auto": is a name already: expected another one
serve.cors_origins = ["*"] => serve.cors_origins = "*": expected origins as browsers send them, such as "https://app.example.org": no path, no *
serve.other_sizes = "nearest": expected "refuse" or "usual"
serve.response_format = "png": expected "b64_json" or "url"
serve.max_upload = 0: expected a whole number from 1 to 268435456
serve.signed_urls_s = 0: expected seconds, from 0.1 to 1e9
serve.max_queue = 0: expected a whole number from 1 to 1000000
serve.rate_per_min = "x": expected a whole number from 0 to 4294967295
serve.images_per_day = 0: expected a whole number from 1 to 9007199254740992
serve.sizes = [[0, 64]] => serve.sizes = [0, 64]: expected [width, height] from 1 to 16384 pixels
serve.sizes = [64, 64] => serve.sizes.0 = 64: expected an array of length 2
serve.most_steps = 0: expected a whole number from 1 to 1000
serve.most_steps = 1001: expected a whole number from 1 to 1000
serve.max_prompt = 0: expected a whole number from 1 to 100000
serve.max_body = 99999999: expected a whole number from 1 to 16777216
serve.max_connections = 0: expected a whole number from 1 to 1000000
serve.read_timeout_s = 0: expected seconds, from 0.1 to 1e9
serve.timeout_s = nan: expected seconds, from 0.1 to 1e9
serve.drain_s = 0: expected seconds, from 0.1 to 1e9
serve.keep_results_s = -1: expected seconds, from 0.1 to 1e9
serve.record = 1: expected true or false
serve.audit_share = 1.5: expected a share of the hits, from 0 to 1
serve.audit_share = nan: expected a share of the hits, from 0 to 1
cache.capacity = "x": expected a whole number from 0 to 4294967295
cache.capacity = 0: expected at least 1
cache.capacity = -1: expected a whole number from 0 to 4294967295
cache.capacity = 1.5: expected a whole number from 0 to 4294967295
cache.capacity = 4294967296: expected a whole number from 0 to 4294967295
cache.capacity_bytes = 0: expected bytes from 1 to 9007199254740992 (2^53)
cache.image_bytes = 0: expected bytes from 1 to 9007199254740992 (2^53)
cache.max_age_s = 0: expected seconds above 0 (at least a nanosecond) to ten years
cache.max_age_s = "x": expected a number
cache.near_duplicate = 0: expected a similarity above 0, at most 1
cache.near_duplicate = 1.5: expected a similarity above 0, at most 1
cache.key = 5: expected an array: [ ... ]
cache.key = ["prompt"] => cache.key.0 = "prompt": expected one of "checkpoint", "loras", "negative_prompt", "guidance"
cache.key = ["loras", "loras"] => cache.key.1 = "loras": expected each property once
cache.guidance_tolerance = "x": expected a number
cache.guidance_tolerance = 0: expected a distance of guidance above 0, at most 1000
cache.guidance_tolerance = nan: expected a distance of guidance above 0, at most 1000
cache.aspect_limit = "x": expected a number
cache.aspect_limit = 0.9: expected a ratio from 1 (the same alone) to 1e9
cache.aspect_limit = nan: expected a ratio from 1 (the same alone) to 1e9
cache.size_factor = "x": expected a number
cache.size_factor = 0: expected a ratio from 1 (the same alone) to 1e9
cache.size_factor = inf: expected a ratio from 1 (the same alone) to 1e9
tenants.scope = "mine": expected one of "shared", "tenant", "tenant-then-public"
tenants.scope = 5: expected a word in quotes
tenants.quota = -1: expected a whole number from 0
tenants.quota = 1000001: the quotas of 2 tenants are more than the capacity of 1000000
tenants.quota = 0: 3 parts of a capacity of 1000000: expected at least 1 for each tenant
tenants.quotas = { nobody = 1 } => tenants.quotas.nobody = 1: expected a tenant of the trace: t, u
tenants.public = ["nobody"]: goes with scope = "tenant-then-public"
cache.admission = 5: expected a word in quotes
cache.admission = "some": expected one of "all", "large", "miss"
cache.eviction = 5: expected a word in quotes
cache.eviction = "mru": expected one of "fifo", "lru", "lfu", "lcbfu", "sieve", "s3-fifo", "gdsf", "random", "farthest"
allocation.policy = 5: expected a word in quotes
allocation.policy = "pid": expected one of "static", "modm", "cascade", "what_if"
allocation.mode = 5: expected a word in quotes
allocation.mode = "fast": expected one of "quality", "throughput", "load"
allocation.switching = 5: expected a table of keys
allocation.switching = { up = "x" } => allocation.switching.up = "x": expected a number
allocation.switching = { up = nan } => allocation.switching.up = nan: expected a share above 0, at most 10
allocation.switching = { down = 0 } => allocation.switching.down = 0: expected a share above 0, at most 10
allocation.switching = { up = 11 } => allocation.switching.up = 11: expected a share above 0, at most 10
allocation.switching = { up = 0.5 } => allocation.switching.down = 0.6: expected less than allocation.switching.up = 0.5: between the two a model stays
allocation.least_small = "x": expected a whole number from 0 to 4294967295
allocation.least_small = -1: expected a whole number from 0 to 4294967295
allocation.least_small = 2: expected fewer than 2, the number of workers
allocation.switching = { upp = 1 } => allocation.switching.upp = 1: is not a key here: expected up or down
allocation.initial_large = "x": expected a whole number from 0 to 4294967295
allocation.initial_large = 0: expected from 1 to 2, the number of workers
allocation.initial_large = -1: expected a whole number from 0 to 4294967295
allocation.initial_large = 1.5: expected a whole number from 0 to 4294967295
allocation.initial_large = 3: expected from 1 to 2, the number of workers
allocation.period_s = "x": expected a number
allocation.period_s = nan: expected seconds above 0 (at least a nanosecond) to ten years
allocation.period_s = inf: expected seconds above 0 (at least a nanosecond) to ten years
allocation.period_s = -1: expected seconds above 0 (at least a nanosecond) to ten years
allocation.period_s = 0: expected seconds above 0 (at least a nanosecond) to ten years
allocation.period_s = 1e-10: expected seconds above 0 (at least a nanosecond) to ten years
allocation.period_s = 1e300: expected seconds above 0 (at least a nanosecond) to ten years
allocation.headroom = "x": expected a number
allocation.headroom = nan: expected a share from 0 to 10
allocation.headroom = -1: expected a share from 0 to 10
allocation.headroom = 11: expected a share from 0 to 10
allocation.window_s = "x": expected a number
allocation.window_s = 0: expected seconds above 0 (at least a nanosecond) to ten years
allocation.horizon_s = nan: expected seconds above 0 (at least a nanosecond) to ten years
allocation.gap_s = -1: expected seconds above 0 (at least a nanosecond) to ten years
allocation.cushion_s = -1: expected seconds from 0 to ten years
allocation.queue_delay = "little": expected "throughput" or "arrival_rate"
allocation.queue_delay = 1: expected a word in quotes
allocation.load_price = inf: expected a number from 0 to 1000000
allocation.load_price = "x": expected a number
models.serves.small = { misses = 5 } => models.serves.small.misses = 5: expected true or false
models.serves.small = { hits = 5 } => models.serves.small.hits = 5: expected an array: [ ... ]
queue.order = "fifo": expected one of "misses_first", "oldest", "deadline", "slack", "fair", "fair_slack"
queue.order = 5: expected a word in quotes
queue.late = "never": expected one of "in_turn", "last", "best", "reject"
queue.overdue_multiple = -1: expected a multiple from 0 to 1000000
queue.overdue_multiple = "x": expected a number
queue.fall_back = -1: expected a multiple from 0 to 1000000
queue.fall_back = "x": expected a number
queue.ease = 1: expected true or false
queue.deadline_multiple = 0: expected a multiple above 0, at most 1000000
queue.deadline_multiple = "x": expected a number
queue.admission = 1: expected true or false
batching.size = 0: expected a number of requests from 1 to 1024
batching.size = 2000: expected a number of requests from 1 to 1024
batching.size = "x": expected a whole number from 0 to 4294967295
batching.wait_s = -1: expected seconds from 0 to ten years
batching.by_deadline = 5: expected true or false
cascade.threshold = 1.5: expected a confidence from 0 to 1
cascade.threshold = "x": expected a number
cascade.confidences = 5: expected a path in quotes
cascade.column = 5: expected text in quotes
cascade.shape = [0.0, 1.0] => cascade.shape = [0, 1]: expected two numbers from 0.001 to 1000
cascade.shape = 5: expected a pair: [number, number]
approximation.assumed_quality = 2: expected a share from 0 to 1
approximation.floor = -1: expected a share from 0 to 1
approximation.floor = 0.97: expected at most approximation.assumed_quality = 0.95, or no hit could be served
approximation.memory = -1: expected a whole number from 0 to 4294967295
approximation.level = 5: expected an array: [ ... ]
approximation.level = [{ from = 0, assumed_quality = 0.9, bounds = [[0.2, 5]] }] => approximation.level.0.from = 0: expected rising numbers of requests for each worker, above 0
approximation.level = [{ from = 1, assumed_quality = 2, bounds = [[0.2, 5]] }] => approximation.level.0.assumed_quality = 2: expected a share from 0 to 1
approximation.level = [{ from = 1, assumed_quality = 0.9, bounds = [] }] => approximation.level.0.bounds = []: expected at least one [similarity, skipped steps]
approximation.level = [{ from = 1, assumed_quality = 0.9, bounds = [[0.2, 50]] }] => approximation.level.0.bounds.0 = [0.2, 50]: expected skipped steps from 0 to 49 (models.steps - 1)
tenants.weights = { t = 0 } => tenants.weights.t = 0: expected a weight from 0.000001 to 1000000
tenants.weights = { x = 1 } => tenants.weights.x = 1: expected a tenant of the trace: t, u
tenants.priorities = { t = -1 } => tenants.priorities.t = -1: expected a whole number from 0 to 4294967295
tenants.priorities = { x = 1 } => tenants.priorities.x = 1: expected a tenant of the trace: t, u
network.workers_per_node = 0: expected at least 1
network.workers_per_node = "x": expected a whole number from 0 to 4294967295
network.latency_ms = -1: expected milliseconds from 0 to 60000
network.latency_ms = nan: expected milliseconds from 0 to 60000
network.bandwidth_gbps = 0: expected Gb/s from 0.000001 to 1000000
network.bandwidth_gbps = "10 GbE": expected a number
network.node_bandwidth_gbps = inf: expected Gb/s from 0.000001 to 1000000
network.picture_bytes = 0: expected bytes from 1 to 1000000000
network.picture_bytes = 1.5: expected a whole number from 0
network.sources = -1: expected a whole number from 0 to 4294967295
faults.events = 5: expected an array: [ ... ]
faults.events = [{ what = "down", workers = [0] }] => faults.events.0.at_s: is missing
faults.events = [{ at_s = 1, what = "gone", workers = [0] }] => faults.events.0.what = "gone": expected one of "down", "slow", "load_fails"
faults.events = [{ at_s = -1, what = "down", workers = [0] }] => faults.events.0.at_s = -1: expected seconds from 0 to ten years
faults.events = [{ at_s = 1, for_s = nan, what = "down", workers = [0] }] => faults.events.0.for_s = nan: expected seconds from 0 to ten years
faults.events = [{ at_s = 1, for_s = 0, what = "down", workers = [0] }] => faults.events.0.for_s = 0: expected an outage of at least a nanosecond: one of no length loses nothing
faults.events = [{ at_s = 1, what = "down", workers = [2] }] => faults.events.0.workers = 2: expected a worker from 0 to 1
faults.events = [{ at_s = 1, what = "down", node = "a" }] => faults.events.0.node = "a": is no node of cluster.gpus: give a group `node = "..."`
faults.events = [{ at_s = 1, what = "down" }] => faults.events.0: expected either `workers = [...]` or `node = "..."`
faults.events = [{ at_s = 1, what = "slow", workers = [0] }] => faults.events.0.factor: is needed with what = "slow": how many times as long jobs take
faults.events = [{ at_s = 1, what = "down", workers = [0], factor = 2 }] => faults.events.0.factor = 2: expected a factor from 0.01 to 1000000, with what = "slow"
allocation.pid = 5: expected "off" or a table { kp, ki, kd, dt }
allocation.pid = "on": expected "off" or a table { kp, ki, kd, dt }
allocation.pid = true: expected "off" or a table { kp, ki, kd, dt }
allocation.pid = [1, 2]: expected "off" or a table { kp, ki, kd, dt }
allocation.pid = {} => allocation.pid.kp: is missing
allocation.pid = { kp = 0.6, ki = 0.05, kd = 0.05 } => allocation.pid.dt: is missing
allocation.pid = { kp = "x", ki = 0.05, kd = 0.05, dt = 3.0 } => allocation.pid.kp = "x": expected a number
allocation.pid = { kp = nan, ki = 0.05, kd = 0.05, dt = 3.0 } => allocation.pid.kp = nan: expected a gain from -1000000 to 1000000
allocation.pid = { kp = 0.6, ki = inf, kd = 0.05, dt = 3.0 } => allocation.pid.ki = inf: expected a gain from -1000000 to 1000000
allocation.pid = { kp = 0.6, ki = 0.05, kd = 1e300, dt = 3.0 } => allocation.pid.kd = 1e300: expected a gain from -1000000 to 1000000
allocation.pid = { kp = 0.6, ki = 0.05, kd = 0.05, dt = 0 } => allocation.pid.dt = 0: expected a time above 0, at most 1e9
allocation.pid = { kp = 0.6, ki = 0.05, kd = 0.05, dt = -1 } => allocation.pid.dt = -1: expected a time above 0, at most 1e9
allocation.pid = { kp = 0.6, ki = 0.05, kd = 0.05, dt = nan } => allocation.pid.dt = nan: expected a time above 0, at most 1e9
allocation.pid = { kp = 0.6, ki = 0.05, kd = 0.05, dt = 3.0, dx = 1 } => allocation.pid.dx = 1: is not a key here: expected one of kp, ki, kd, dt
slo.multiples = 5: expected an array: [ ... ]
slo.multiples = ["x"] => slo.multiples.0 = "x": expected a number
slo.multiples = [2.0, nan] => slo.multiples.1 = nan: expected a multiple above 0, at most 1000000
slo.multiples = [0] => slo.multiples.0 = 0: expected a multiple above 0, at most 1000000
slo.multiples = [-1] => slo.multiples.0 = -1: expected a multiple above 0, at most 1000000
slo.multiples = [1e300] => slo.multiples.0 = 1e300: expected a multiple above 0, at most 1000000
metrics.warmup_s = "x": expected a number
metrics.warmup_s = nan: expected seconds from 0 to ten years
metrics.warmup_s = -1: expected seconds from 0 to ten years
metrics.warmup_s = 1e300: expected seconds from 0 to ten years
metrics.window_s = "x": expected a number
metrics.window_s = nan: expected seconds above 0 (at least a nanosecond) to ten years
metrics.window_s = -1: expected seconds above 0 (at least a nanosecond) to ten years
metrics.window_s = 0: expected seconds above 0 (at least a nanosecond) to ten years
metrics.window_s = 1e300: expected seconds above 0 (at least a nanosecond) to ten years
metrics.near_miss = "x": expected a number
metrics.near_miss = nan: expected a similarity from 0 to 1
metrics.near_miss = -0.01: expected a similarity from 0 to 1
metrics.near_miss = 1.5: expected a similarity from 0 to 1
metrics.near_miss = 1e300: expected a similarity from 0 to 1
metrics.false_hit_similarity = "x": expected a number
metrics.false_hit_similarity = nan: expected a share from 0 to 1
metrics.false_hit_similarity = -0.95: expected a share from 0 to 1
metrics.false_hit_similarity = 1.5: expected a share from 0 to 1
metrics.false_hit_similarity = 1e300: expected a share from 0 to 1
encoder.dimension = "x": expected a whole number from 0 to 4294967295
encoder.dimension = 7: expected a number of components from 8 to 4096
encoder.dimension = 4097: expected a number of components from 8 to 4096
encoder.dimension = 1.5: expected a whole number from 0 to 4294967295
encoder.dimension = -1: expected a whole number from 0 to 4294967295
encoder.background = "x": expected a number
encoder.background = nan: expected a cosine from 0 to 0.99
encoder.background = -1: expected a cosine from 0 to 0.99
encoder.background = 2: expected a cosine from 0 to 0.99
encoder.word_share = "x": expected a number
encoder.word_share = nan: expected a share from 0.01 to 1
encoder.word_share = -1: expected a share from 0.01 to 1
encoder.word_share = 2: expected a share from 0.01 to 1
encoder.pair_share = "x": expected a number
encoder.pair_share = nan: expected a share from 0 to 1
encoder.pair_share = -1: expected a share from 0 to 1
encoder.pair_share = 2: expected a share from 0 to 1
encoder.character_share = "x": expected a number
encoder.character_share = nan: expected a share from 0 to 1
encoder.character_share = -1: expected a share from 0 to 1
encoder.character_share = 2: expected a share from 0 to 1
image_model.own_similarity = "x": expected a number
image_model.own_similarity = nan: expected a cosine from 0 to 1
image_model.own_similarity = -1: expected a cosine from 0 to 1
image_model.own_similarity = 2: expected a cosine from 0 to 1
image_model.own_similarity_deviation = "x": expected a number
image_model.own_similarity_deviation = nan: expected a standard deviation from 0 to 1
image_model.own_similarity_deviation = -1: expected a standard deviation from 0 to 1
image_model.own_similarity_deviation = 2: expected a standard deviation from 0 to 1
image_model.noise_dimension = "x": expected a whole number from 0 to 4294967295
image_model.noise_dimension = 0: expected a number of components from 1 to 4096
image_model.noise_dimension = 4097: expected a number of components from 1 to 4096
"#;

/// As above.
const MADE: &str = r#"
trace.synthetic.requests = "x": expected a whole number from 0 to 4294967295
trace.synthetic.requests = 0: expected a number from 1 to 100 million
trace.synthetic.requests = -1: expected a whole number from 0 to 4294967295
trace.synthetic.requests = 1.5: expected a whole number from 0 to 4294967295
trace.synthetic.requests = 100000001: expected a number from 1 to 100 million
trace.synthetic.arrivals = 5: expected a table of keys
trace.synthetic.arrivals = "poisson": expected a table of keys
trace.synthetic.arrivals = { rate_per_min = 5 } => trace.synthetic.arrivals.process: is missing
trace.synthetic.arrivals = { process = "possion" } => trace.synthetic.arrivals.process = "possion": expected one of "poisson", "gamma", "bursts", "diurnal", "sigmoid", "constant", "steps"
trace.synthetic.arrivals = { process = 5 } => trace.synthetic.arrivals.process = 5: expected a word in quotes
trace.synthetic.arrivals = { process = "poisson", cv = 2 } => trace.synthetic.arrivals.cv = 2: is not a key here: expected rate_per_min
trace.synthetic.arrivals = { process = "poisson", rate_per_min = "x" } => trace.synthetic.arrivals: expected a number, found string "x"
trace.synthetic.arrivals = { process = "poisson", rate_per_min = 0 } => trace.synthetic.arrivals.rate_per_min = 0: expected requests per minute above 0, at most 1e9
trace.synthetic.arrivals = { process = "poisson", rate_per_min = -1 } => trace.synthetic.arrivals.rate_per_min = -1: expected requests per minute above 0, at most 1e9
trace.synthetic.arrivals = { process = "poisson", rate_per_min = nan } => trace.synthetic.arrivals.rate_per_min = nan: expected requests per minute above 0, at most 1e9
trace.synthetic.arrivals = { process = "poisson", rate_per_min = 1e300 } => trace.synthetic.arrivals.rate_per_min = 1e300: expected requests per minute above 0, at most 1e9
trace.synthetic.arrivals = { process = "gamma", cv = 0 } => trace.synthetic.arrivals.cv = 0: expected a coefficient of variation from 0.01 to 20 (for 0 use constant)
trace.synthetic.arrivals = { process = "gamma", cv = nan } => trace.synthetic.arrivals.cv = nan: expected a coefficient of variation from 0.01 to 20 (for 0 use constant)
trace.synthetic.arrivals = { process = "bursts", calm_rate_per_min = -1 } => trace.synthetic.arrivals.calm_rate_per_min = -1: expected requests per minute from 0 to 1e9
trace.synthetic.arrivals = { process = "bursts", burst_rate_per_min = 0 } => trace.synthetic.arrivals.burst_rate_per_min = 0: expected requests per minute above 0, at most 1e9
trace.synthetic.arrivals = { process = "bursts", mean_calm_s = 0.5 } => trace.synthetic.arrivals.mean_calm_s = 0.5: expected seconds from 1 to ten years
trace.synthetic.arrivals = { process = "bursts", mean_burst_s = nan } => trace.synthetic.arrivals.mean_burst_s = nan: expected seconds from 1 to ten years
trace.synthetic.arrivals = { process = "diurnal", amplitude = 1.5 } => trace.synthetic.arrivals.amplitude = 1.5: expected a share of the mean rate from 0 to 1
trace.synthetic.arrivals = { process = "diurnal", period_s = 0 } => trace.synthetic.arrivals.period_s = 0: expected seconds above 0, at most ten years
trace.synthetic.arrivals = { process = "sigmoid", min_rate_per_min = 0 } => trace.synthetic.arrivals.min_rate_per_min = 0: expected requests per minute above 0, at most 1e9
trace.synthetic.arrivals = { process = "sigmoid", max_rate_per_min = inf } => trace.synthetic.arrivals.max_rate_per_min = inf: expected requests per minute above 0, at most 1e9
trace.synthetic.arrivals = { process = "constant", rate_per_min = 0 } => trace.synthetic.arrivals.rate_per_min = 0: expected requests per minute above 0, at most 1e9
trace.synthetic.arrivals = { process = "steps" } => trace.synthetic.arrivals.steps: is missing
trace.synthetic.arrivals = { process = "steps", steps = [] } => trace.synthetic.arrivals.steps = []: expected at least one row [until_s, rate_per_min]
trace.synthetic.arrivals = { process = "steps", steps = [[60]] } => trace.synthetic.arrivals: expected a pair: [number, number]
trace.synthetic.arrivals = { process = "steps", steps = [[60, 5], [30, 5]] } => trace.synthetic.arrivals.steps.1 = 30: expected until_s in seconds, rising, at most ten years
trace.synthetic.arrivals = { process = "steps", steps = [[60, -5]] } => trace.synthetic.arrivals.steps.0 = -5: expected requests per minute from 0 to 1e9
trace.synthetic.arrivals = { process = "steps", steps = [[60, 0]] } => trace.synthetic.arrivals.steps = 0: expected a last rate above 0: it holds to the end
trace.synthetic.arrivals = { process = "steps", steps = [["x", 5]] } => trace.synthetic.arrivals: expected a number, found string "x"
trace.synthetic.prompts.vocabulary = 5: expected a word in quotes
trace.synthetic.prompts.vocabulary = "photos": expected "art" or "shapes"
trace.synthetic.prompts.topics = "x": expected a whole number from 0 to 4294967295
trace.synthetic.prompts.topics = 0: expected a count from 1 to 10 million
trace.synthetic.prompts.topics = -1: expected a whole number from 0 to 4294967295
trace.synthetic.prompts.topics = 10000001: expected a count from 1 to 10 million
trace.synthetic.prompts.topic_exponent = "x": expected a number
trace.synthetic.prompts.topic_exponent = nan: expected an exponent from 0 to 10
trace.synthetic.prompts.topic_exponent = -1: expected an exponent from 0 to 10
trace.synthetic.prompts.topic_exponent = 11: expected an exponent from 0 to 10
trace.synthetic.prompts.new_topics_per_1000 = "x": expected a number
trace.synthetic.prompts.new_topics_per_1000 = nan: expected topics per thousand requests from 0 to 1000000
trace.synthetic.prompts.new_topics_per_1000 = -1: expected topics per thousand requests from 0 to 1000000
trace.synthetic.prompts.new_topics_per_1000 = 1e7 => trace.synthetic.prompts.new_topics_per_1000 = 10000000.0: expected topics per thousand requests from 0 to 1000000
trace.synthetic.prompts.sessions = "x": expected a whole number from 0 to 4294967295
trace.synthetic.prompts.sessions = 0: expected a count from 1 to 10 million
trace.synthetic.prompts.sessions = 10000001: expected a count from 1 to 10 million
trace.synthetic.prompts.session_requests = "x": expected a number
trace.synthetic.prompts.session_requests = nan: expected a mean number of requests from 1 to 1000000
trace.synthetic.prompts.session_requests = 0: expected a mean number of requests from 1 to 1000000
trace.synthetic.prompts.session_requests = 1e7 => trace.synthetic.prompts.session_requests = 10000000.0: expected a mean number of requests from 1 to 1000000
trace.synthetic.prompts.repeats = "x": expected a number
trace.synthetic.prompts.repeats = nan: expected a chance from 0 to 1
trace.synthetic.prompts.repeats = -1: expected a chance from 0 to 1
trace.synthetic.prompts.repeats = 2: expected a chance from 0 to 1
trace.synthetic.prompts.variation = "x": expected a number
trace.synthetic.prompts.variation = nan: expected a chance from 0 to 1
trace.synthetic.prompts.variation = -1: expected a chance from 0 to 1
trace.synthetic.prompts.variation = 2: expected a chance from 0 to 1
trace.synthetic.prompts.word_exponent = nan: expected an exponent from 0 to 10
trace.synthetic.prompts.word_exponent = -1: expected an exponent from 0 to 10
trace.synthetic.prompts.word_exponent = 11: expected an exponent from 0 to 10
trace.synthetic.prompts.own_words = 21: expected a number of words from 0 to 20
trace.synthetic.prompts.own_words = -1: expected a whole number from 0 to 4294967295
trace.synthetic.prompts.tenants = 0: expected a count from 1 to 10 million
trace.synthetic.prompts.tenants = "x": expected a whole number from 0 to 4294967295
trace.synthetic.prompts.tenants = 10000001: expected a count from 1 to 10 million
trace.synthetic.prompts.tenant_exponent = nan: expected an exponent from 0 to 10
trace.synthetic.prompts.tenant_exponent = -1: expected an exponent from 0 to 10
trace.synthetic.prompts.tenant_exponent = 11: expected an exponent from 0 to 10
"#;

/// The message about a bad value, from each place it can be given in.
fn wherever(text: &str, file: &str, table: &'static str) {
    all(rows(table).flat_map(|(key, value, message)| {
        let (section, last) =
            key.rsplit_once('.').map_or((String::new(), key), |(section, last)| (format!("[{section}]"), last));
        let (spoiled_text, line) = with_line(text, &section, last, &format!("{last} = {value}"));
        let in_file = spoiled(file, spoiled_text).refusal(&simulate(file, &[]), &format!("{file}:{line}: {message}"));

        let set = format!("{key}={value}");
        let by_flag = spoiled(file, text).refusal(&simulate(file, &["--set", &set]), &format!("--set: {message}"));

        let variant = format!("{text}[[variant]]\nname = \"bad\"\nset = {{ \"{key}\" = {value} }}\n");
        let compare = ["compare", file, "--variants", "bad", "--out", "results", "--quiet"];
        let by_variant = spoiled(file, variant).refusal(&compare, &format!("variant \"bad\": {message}"));
        [in_file, by_flag, by_variant]
    }));
}

#[test]
fn what_is_served_by_what() {
    wherever(SCENARIO, "scenario.toml", SERVED);
}

#[test]
fn how_it_is_served_and_measured() {
    wherever(SCENARIO, "scenario.toml", SERVING);
}

/// Values for a program that was built without FAISS.
#[cfg(not(feature = "faiss"))]
#[test]
fn an_index_that_is_not_built_in() {
    let table = r#"
retrieval.index = "faiss-flat": this modm was built without FAISS: build with --features faiss (docs/retrieval.md says what it needs), or use "exact"
retrieval.index = "faiss-ivf-sq8": this modm was built without FAISS: build with --features faiss (docs/retrieval.md says what it needs), or use "exact"
"#;
    wherever(SCENARIO, "scenario.toml", table);
}

#[test]
fn synthetic_traces() {
    wherever(SYNTHETIC, "made.toml", MADE);
}
