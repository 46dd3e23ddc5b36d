// Runs the simulator of `crates/web`, in a worker where there is one. `post` receives what comes out. It is one function
// without a reference to anything outside, since its text becomes the worker's.
function engine(post) {
  "use strict";
  let exports;
  let asked;
  let fresh = false;
  let busy = false;
  const decoder = new TextDecoder();

  /** Calls a function of the module and reads the JSON that it left in memory. */
  const call = (name) => {
    const length = exports[name]();
    return JSON.parse(decoder.decode(new Uint8Array(exports.memory.buffer, exports.text(), length)));
  };

  /** Does one piece of work, and lets a newer question come in before the next. */
  const turn = () => {
    busy = true;
    let isDone;
    try {
      if (fresh) {
        fresh = false;
        // Each call may move the memory, so that views are made anew.
        new Float64Array(exports.memory.buffer, exports.settings(), asked.numbers.length).set(asked.numbers);
        const begin = performance.now();
        call("prepare");
        const prepared = performance.now();
        const result = call("run");
        const took = [prepared - begin, performance.now() - prepared];
        post({ kind: "run", id: asked.id, result, took, files: result.error ? null : call("files") });
        isDone = result.error !== undefined;
      } else {
        const begin = performance.now();
        const result = call("capacity");
        post({ kind: "capacity", id: asked.id, result, took: performance.now() - begin });
        isDone = result.error !== undefined || result.done;
      }
    } catch (error) {
      post({ kind: "broken", error: String(error) });
      return;
    }
    if (isDone && !fresh) busy = false;
    else setTimeout(turn, 0);
  };

  return async (question) => {
    if (question.module) {
      const made = await WebAssembly.instantiate(question.module, {});
      exports = made.instance.exports;
      post({ kind: "ready", description: call("describe") });
      return;
    }
    asked = question;
    fresh = true;
    if (!busy) turn();
  };
}
