// Threads that spin for a moment and then sleep. Work is handed out by index from a shared counter: who takes which index
// does not matter, because an index is the same work for everyone.
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#ifdef __linux__
#include <pthread.h>
#include <sched.h>
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "cpu.h"

namespace cpu {

namespace {
void pause_briefly() {
#if defined(__x86_64__)
  _mm_pause();
#endif
}
constexpr int spins = 20000;  // about 0.3 ms: longer than the gap between two operations of a step

void pin_to(std::thread &thread, int core) {
#ifdef __linux__
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(core, &set);
  pthread_setaffinity_np(thread.native_handle(), sizeof set, &set);
#else
  (void)thread, (void)core;
#endif
}
}  // namespace

// A round of work is open while its indices are handed out. A thread that takes part counts itself as inside before it
// looks whether the round is open, so the caller, having closed it, waits only for those inside: a thread that the
// system does not run just now holds nobody up.
struct Pool::State {
  std::vector<std::thread> workers;
  std::mutex mutex;
  std::condition_variable wake;
  std::atomic<uint64_t> round{0};
  std::atomic<bool> open{false}, stop{false};
  std::atomic<int> inside{0}, asleep{0};
  std::atomic<int64_t> next{0};
  int64_t count = 0;
  const std::function<void(int64_t)> *body = nullptr;

  void drain() {
    for (int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < count;) (*body)(i);
  }

  void work() {
    uint64_t seen = 0;
    while (!stop.load()) {
      for (int i = 0; i < spins && round.load(std::memory_order_acquire) == seen; i++) pause_briefly();
      if (round.load(std::memory_order_acquire) == seen) {
        std::unique_lock<std::mutex> lock(mutex);
        asleep++;
        wake.wait(lock, [&] { return round.load(std::memory_order_acquire) != seen; });
        asleep--;
      }
      seen = round.load(std::memory_order_acquire);
      inside.fetch_add(1);
      if (open.load()) drain();
      inside.fetch_sub(1);
    }
  }

  void announce() {
    round.fetch_add(1);
    if (asleep.load() == 0) return;
    { std::lock_guard<std::mutex> lock(mutex); }  // whoever is about to sleep has looked, or will look, at the round
    wake.notify_all();
  }
};

Pool::Pool(int threads, bool pin) : state_(new State), count_(threads) {
  for (int i = 1; i < threads; i++) {
    state_->workers.emplace_back([this] { state_->work(); });
    if (pin) pin_to(state_->workers.back(), i);
  }
}

Pool::~Pool() {
  state_->stop.store(true);
  {
    std::lock_guard<std::mutex> lock(state_->mutex);
    state_->round.fetch_add(1);
  }
  state_->wake.notify_all();
  for (std::thread &worker : state_->workers) worker.join();
  delete state_;
}

void Pool::run(int64_t count, const std::function<void(int64_t)> &body) {
  if (count_ == 1 || count <= 1) {
    for (int64_t i = 0; i < count; i++) body(i);
    return;
  }
  State &s = *state_;
  s.body = &body;
  s.count = count;
  s.next.store(0);
  s.open.store(true);
  s.announce();
  s.drain();
  s.open.store(false);
  while (s.inside.load() != 0) pause_briefly();
}

}  // namespace cpu
