// State in files: what was written is what is read, by each way of I/O, and errors name the file.
#include "runtime/offload/block_store.h"

#include <gmock/gmock.h>

#include <cstring>
#include <fstream>
#include <random>
#include <vector>

#include "runtime/offload/host_buffer.h"
#include "runtime/offload/paged_file.h"
#include "runtime/offload/state_file.h"
#include "tests/refusal.h"
#include "tests/temporary_folder.h"

namespace deepscale {
namespace {

using ::deepscale::testing::refusal_of;
using ::deepscale::testing::TemporaryFolder;
using ::testing::HasSubstr;

constexpr std::size_t kPage = 4096;

class BlockStoreTest : public ::testing::TestWithParam<bool> {
 protected:
  BlockStoreOptions options(std::size_t block_bytes = 2 * kPage, int queue_depth = 3) const {
    return {.folder = folder_.path() / "made" / "for it",
            .block_bytes = block_bytes,
            .queue_depth = queue_depth,
            .use_threads = GetParam()};
  }
  TemporaryFolder folder_;
};

void fill(const HostBuffer& buffer, unsigned seed) {
  std::mt19937 random(seed);
  for (std::size_t i = 0; i < buffer.bytes(); ++i) buffer.data()[i] = static_cast<std::byte>(random());
}

bool same(const std::byte* left, const std::byte* right, std::size_t bytes) {
  return std::memcmp(left, right, bytes) == 0;
}

TEST_P(BlockStoreTest, ReadsWhatWasWritten) {
  std::mt19937 random(1);
  for (const int queue_depth : {1, 2, 16}) {
    for (const std::size_t block_pages : {1u, 3u, 1000u}) {
      BlockStore store(options(block_pages * kPage, queue_depth));
      const HostBuffer written(64 * kPage), read(64 * kPage);
      fill(written, random());
      store.reserve(written.bytes());
      std::vector<BlockStore::Transfer> transfers;
      for (std::size_t page = 0; page < 64;) {  // requests of many sizes at once
        const std::size_t pages = std::min<std::size_t>(64 - page, 1 + random() % 9);
        transfers.push_back(store.write(page * kPage, written.data() + page * kPage, pages * kPage));
        page += pages;
      }
      for (BlockStore::Transfer& transfer : transfers) transfer.wait();
      store.read(0, read.data(), read.bytes()).wait();
      EXPECT_TRUE(same(written.data(), read.data(), read.bytes()));
      store.read(7 * kPage, read.data(), 5 * kPage).wait();
      EXPECT_TRUE(same(written.data() + 7 * kPage, read.data(), 5 * kPage));
    }
  }
}

TEST_P(BlockStoreTest, ReservedMemoryReadsAsZero) {
  BlockStore store(options());
  const HostBuffer read(4 * kPage), zero(4 * kPage);
  fill(read, 3);
  store.reserve(9 * kPage);
  store.read(5 * kPage, read.data(), read.bytes()).wait();
  EXPECT_TRUE(same(read.data(), zero.data(), read.bytes()));
}

TEST_P(BlockStoreTest, AReadPastTheEndNamesTheFile) {
  BlockStore store(options());
  const HostBuffer read(4 * kPage);
  store.reserve(2 * kPage);
  BlockStore::Transfer transfer = store.read(0, read.data(), read.bytes());
  const auto refusal = refusal_of([&] { transfer.wait(); });
  EXPECT_EQ(refusal.code, ErrorCode::kSystem);
  EXPECT_THAT(refusal.message,
              HasSubstr("cannot read 8192 bytes at offset 8192 of " + store.path().string()));
  store.read(0, read.data(), 2 * kPage).wait();  // the next one works
}

TEST_P(BlockStoreTest, LeavesNoFile) {
  {
    BlockStore store(options());
    store.reserve(kPage);
  }
  EXPECT_TRUE(std::filesystem::is_empty(options().folder));
}

// Nobody waits for the write; its memory is used until the store has ended.
TEST_P(BlockStoreTest, ItsEndWaitsForWhatIsInFlight) {
  const HostBuffer data(256 * kPage);
  BlockStore store(options(kPage, 2));
  store.reserve(data.bytes());
  store.write(0, data.data(), data.bytes());
}

TEST_P(BlockStoreTest, AFolderThatCannotBeMadeIsNamed) {
  BlockStoreOptions here = options();
  here.folder = folder_.write("file", "no folder") / "below";
  const auto refusal = refusal_of([&] { BlockStore store(here); });
  EXPECT_EQ(refusal.code, ErrorCode::kSystem);
  EXPECT_THAT(refusal.message, HasSubstr(here.folder.string()));
}

TEST_P(BlockStoreTest, ADiskThatIsTooSmallIsFoundWhenItIsReserved) {
  BlockStore store(options());
  std::error_code ignored;
  const auto space = std::filesystem::space(options().folder, ignored);
  const auto refusal = refusal_of([&] { store.reserve((space.capacity + (1ull << 40)) / kPage * kPage); });
  EXPECT_EQ(refusal.code, ErrorCode::kSystem);
  EXPECT_THAT(refusal.message, HasSubstr(store.path().string()));
  EXPECT_THAT(refusal.message, HasSubstr("free some space"));
}

TEST_P(BlockStoreTest, AnyRangeOfAPagedFileIsReadAndWritten) {
  constexpr std::size_t kBytes = 5'000'000;  // more than the buffers
  PagedFile file(options(3 * kPage, 4));
  ASSERT_EQ(file.append(1), 0u);
  ASSERT_EQ(file.append(kBytes), kPage);
  std::vector<std::byte> expected(kBytes), read(kBytes);
  std::mt19937 random(2);
  for (int round = 0; round < 40; ++round) {
    const std::size_t begin = random() % kBytes;
    const std::size_t bytes =
        random() % (round % 2 == 0 ? kBytes - begin : std::min(kBytes - begin, 3 * kPage));
    for (std::size_t i = begin; i < begin + bytes; ++i) expected[i] = static_cast<std::byte>(random());
    file.write(kPage + begin, expected.data() + begin, bytes);
    const std::size_t from = random() % kBytes;
    const std::size_t count = random() % (kBytes - from);
    file.read(kPage + from, read.data(), count);
    ASSERT_TRUE(same(read.data(), expected.data() + from, count)) << round;
  }
  const HostBuffer pages(64 * kPage);
  file.write(kPage + 5, expected.data(), 100'000);
  file.read_pages(kPage, pages.data(), 64 * kPage).wait();
  EXPECT_TRUE(same(pages.data() + 5, expected.data(), 100'000))
      << "what is written behind was not waited for";
  file.read(0, read.data(), kPage);
  EXPECT_TRUE(same(read.data(), HostBuffer(kPage).data(), kPage)) << "what was appended before has changed";
}

TEST_P(BlockStoreTest, APagedFileThatCannotGrowIsNamed) {
  PagedFile file(options());
  const auto refusal = refusal_of([&] { file.append(1ull << 60); });
  EXPECT_EQ(refusal.code, ErrorCode::kSystem);
  EXPECT_THAT(refusal.message, HasSubstr(folder_.path().string()));
  EXPECT_EQ(file.append(kPage), 0u);
}

StateFileOptions state_options(BlockStoreOptions store, int quantities) {
  return {.store = std::move(store), .quantities = quantities, .chunk_numel = 3000};
}

TEST_P(BlockStoreTest, StateIsUpdatedChunkByChunk) {
  for (const int quantities : {1, 2, 3}) {
    StateFile file(state_options(options(), quantities));
    std::vector<std::vector<float>> expected(static_cast<std::size_t>(quantities));
    for (int step = 1; step <= 3; ++step) {
      // Each step finds more elements, and the new ones are zero.
      const std::int64_t numel = file.add_segment(5000 * step + 1) + 5000 * step + 1;
      for (std::vector<float>& values : expected) values.resize(static_cast<std::size_t>(file.numel()));
      std::int64_t next = 0;
      file.update([&](const StateFile::Chunk& chunk) {
        EXPECT_EQ(chunk.begin, next);
        next += chunk.numel;
        for (std::int64_t i = 0; i < chunk.numel; ++i) {
          for (int quantity = 0; quantity < quantities; ++quantity) {
            float& value = chunk.values[static_cast<std::size_t>(quantity)][i];
            float& known =
                expected[static_cast<std::size_t>(quantity)][static_cast<std::size_t>(chunk.begin + i)];
            ASSERT_EQ(value, known);
            value = known = known * 3.0f + static_cast<float>(chunk.begin + i + quantity + step);
          }
        }
      });
      EXPECT_GE(next, numel);
    }
  }
}

TEST_P(BlockStoreTest, StateIsReadAndWrittenAtAnyElement) {
  StateFile file(state_options(options(), 2));
  file.add_segment(10'000);
  std::vector<float> expected(10'000);
  std::mt19937 random(1);
  for (int round = 0; round < 30; ++round) {
    const auto begin = static_cast<std::int64_t>(random() % 10'000);
    const auto numel = static_cast<std::int64_t>(random() % (10'000 - static_cast<std::uint64_t>(begin)));
    for (std::int64_t i = begin; i < begin + numel; ++i)
      expected[static_cast<std::size_t>(i)] = static_cast<float>(random());
    file.write(1, begin, numel, expected.data() + begin);
    std::vector<float> read(10'000);
    file.read(1, begin, numel, read.data());
    EXPECT_EQ(std::memcmp(read.data(), expected.data() + begin, static_cast<std::size_t>(numel) * 4), 0);
  }
  std::vector<float> all(10'000);
  file.read(1, 0, 10'000, all.data());
  EXPECT_EQ(all, expected);
  file.read(0, 0, 10'000, all.data());
  EXPECT_EQ(all, std::vector<float>(10'000));
}

INSTANTIATE_TEST_SUITE_P(Offload, BlockStoreTest, ::testing::Bool(),
                         [](const auto& info) { return info.param ? "Threads" : "Asynchronous"; });

}  // namespace
}  // namespace deepscale
