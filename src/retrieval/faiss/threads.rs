//! Number of threads that FAISS uses: one. With several threads its training, and so its answers, would depend on
//! timing, and single queries get no faster.

#[expect(unsafe_code, reason = "neither FAISS' C interface nor the crate has it; a number goes in, nothing comes out")]
unsafe extern "C" {
    /// Sets the number of threads of the calling thread's next parallel region; OpenMP, section 3.2.1.
    safe fn omp_set_num_threads(threads: std::ffi::c_int);
}

/// Limits FAISS calls from this thread to this thread. The setting is each thread's own, and an index may move between
/// threads.
pub(super) fn use_one() {
    thread_local! {
        static SET: () = omp_set_num_threads(1);
    }
    SET.with(|()| ());
}
