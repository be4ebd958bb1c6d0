// Memory that is read and then changed: the reader has what was there before release(), wherever it was by
// then.
#include "runtime/checkpoint/live_bytes.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <future>
#include <thread>

#include "tests/event.h"

namespace deepscale::testing {
namespace {

using Bytes = std::vector<unsigned char>;

// Of sizes that do not fit the blocks of a copy, nor the pieces of a reader.
std::vector<Bytes> make_runs() {
  std::vector<Bytes> runs;
  for (const std::size_t size : {0UL, 5UL, (3UL << 20) + 17, 1UL << 20, 64UL, 0UL, (1UL << 20) - 1, 0UL}) {
    Bytes& run = runs.emplace_back(size);
    for (std::size_t i = 0; i < size; ++i) run[i] = static_cast<unsigned char>(i * 31 + (i >> 12) + size);
  }
  return runs;
}

void change(std::vector<Bytes>& runs) {
  for (Bytes& run : runs) std::fill(run.begin(), run.end(), static_cast<unsigned char>(0xEE));
}

// Reads runs in pieces, and calls `before` with the number of each piece.
template <typename Before>
std::vector<Bytes> read_runs(const std::vector<Bytes>& runs, const std::vector<ByteSource>& sources,
                             std::int64_t piece, const Before& before) {
  std::vector<Bytes> read;
  int number = 0;
  for (std::size_t i = 0; i < runs.size(); ++i) {
    const auto size = static_cast<std::int64_t>(runs[i].size());
    read.emplace_back(runs[i].size());
    for (std::int64_t begin = 0; begin < size; begin += piece) {
      before(number++);
      sources[i](begin, std::min(piece, size - begin), read.back().data() + begin);
    }
  }
  return read;
}

std::vector<ByteSource> sources_of(LiveBytes& live, const std::vector<Bytes>& runs) {
  std::vector<ByteSource> sources;
  for (const Bytes& run : runs)
    sources.push_back(live.add(run.data(), static_cast<std::int64_t>(run.size())));
  return sources;
}

TEST(LiveBytes, AreReadAsTheyWereWhereverTheReaderIsAtTheRelease) {
  const std::vector<Bytes> expected = make_runs();
  for (const std::int64_t piece : {1 << 20, 700'000}) {
    int pieces = 1;
    for (int moment = 0; moment < pieces; ++moment) {
      std::vector<Bytes> runs = make_runs();
      LiveBytes live;
      const auto release_at = [&](int number) {
        pieces = std::max(pieces, number + 1);
        if (number != moment) return;
        live.release();
        change(runs);
      };
      EXPECT_EQ(read_runs(runs, sources_of(live, runs), piece, release_at), expected)
          << "piece " << moment << " of " << pieces;
    }
    EXPECT_GE(pieces, 8);
  }
}

TEST(LiveBytes, OfAReaderThatIsThroughAreNotReadAgain) {
  std::vector<Bytes> runs = make_runs();
  LiveBytes live;
  read_runs(runs, sources_of(live, runs), 1 << 20, [](int) {});
  runs.clear();  // the address sanitizer sees a read
  live.release();
}

// The reader from the begin and the copies from the end meet anywhere, mostly at a block that is being
// copied, since the pieces of the reader are small.
TEST(LiveBytes, AreReadAsTheyWereWhileAnotherThreadReleasesThem) {
  constexpr std::int64_t kPiece = 4096, kPieces = 10'000;
  const Bytes expected(kPieces * kPiece, 7);
  for (int turn = 0; turn < 5; ++turn) {
    Bytes memory = expected, read(expected.size());
    LiveBytes live;
    const ByteSource source = live.add(memory.data(), kPieces * kPiece);
    Event is_releasing;
    std::thread trainer([&] {
      is_releasing.happen();
      live.release();
      std::fill(memory.begin(), memory.end(), static_cast<unsigned char>(8));
    });
    is_releasing.wait();
    for (std::int64_t i = 0; i < kPieces; ++i) source(i * kPiece, kPiece, read.data() + i * kPiece);
    trainer.join();
    EXPECT_TRUE(read == expected);
  }
}

TEST(LiveBytes, ThatCannotBeCopiedAreWaitedFor) {
  std::atomic<int> calls = 0;
  Event is_last, may_end;
  Bytes before(3000, 1), read(4000);
  LiveBytes live;
  const ByteSource copied = live.add(before.data(), 3000);
  const ByteSource uncopied = live.add(
      [&](std::int64_t, std::int64_t, void*) {
        if (++calls < 4) return;
        is_last.happen();
        may_end.wait();
      },
      4000);
  std::thread reader([&] {
    copied(0, 3000, read.data());
    for (std::int64_t begin = 0; begin < 4000; begin += 1000) uncopied(begin, 1000, read.data() + 3000);
  });
  std::future<void> released = std::async(std::launch::async, [&] { live.release(); });
  is_last.wait();
  EXPECT_EQ(released.wait_for(std::chrono::milliseconds(20)), std::future_status::timeout)
      << "the last piece is being read";
  may_end.happen();
  released.get();
  EXPECT_EQ(calls, 4);
  reader.join();
  EXPECT_EQ(std::count(read.begin(), read.begin() + 3000, 1), 3000);
}

TEST(LiveBytes, AreReleasedWhenTheReaderGivesUp) {
  LiveBytes live;
  const ByteSource uncopied = live.add([](std::int64_t, std::int64_t, void*) { throw 1; }, 4000);
  std::future<void> released = std::async(std::launch::async, [&] { live.release(); });
  Bytes read(4000);
  EXPECT_THROW(uncopied(0, 1000, read.data()), int);
  EXPECT_EQ(released.wait_for(std::chrono::seconds(0)), std::future_status::timeout);
  live.close();
  EXPECT_EQ(released.wait_for(std::chrono::seconds(20)), std::future_status::ready);
  live.release();
}

}  // namespace
}  // namespace deepscale::testing
