#include "examples/cifar10/cifar10_dataset.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "comm/base/error.h"
#include "tests/examples/image_folder.h"

namespace cifar10 {
namespace {

using deepscale::Error;
using deepscale::ErrorCode;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

class Cifar10Dataset : public testing::Test {
 protected:
  void write_good_files() {
    folder_.write("data_batch_1.bin", striped_images(20, 1));
    folder_.write("test_batch.bin", striped_images(10, 2));
  }

  void expect_error(ErrorCode code, const testing::Matcher<std::string>& message) {
    try {
      read_dataset(folder_.path());
      FAIL() << "no error";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), code);
      EXPECT_THAT(std::string(error.what()), message);
    }
  }

  ImageFolder folder_;
};

TEST_F(Cifar10Dataset, ReadsTrainingFilesInOrderOfTheirNames) {
  write_good_files();
  folder_.write("data_batch_2.bin", striped_images(30, 3));
  folder_.write("readme.html", "not an image");
  Records expected = striped_images(20, 1);
  const Records second = striped_images(30, 3);
  expected.insert(expected.end(), second.begin(), second.end());

  const Dataset dataset = read_dataset(folder_.path());
  EXPECT_TRUE(dataset.train == expected);
  EXPECT_TRUE(dataset.test == striped_images(10, 2));
}

TEST_F(Cifar10Dataset, KnowsCifar10sClassesWithoutTheirFile) {
  write_good_files();
  EXPECT_THAT(read_dataset(folder_.path()).class_names,
              ElementsAre("plane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"));
}

// CIFAR-10's own file ends with an empty line.
TEST_F(Cifar10Dataset, ReadsClassNames) {
  write_good_files();
  folder_.write("batches.meta.txt", "a\nb\r\nc\nd\ne\nf\ng\nh\ni\nj j\n\n");
  EXPECT_THAT(read_dataset(folder_.path()).class_names,
              ElementsAre("a", "b", "c", "d", "e", "f", "g", "h", "i", "j j"));
}

TEST_F(Cifar10Dataset, RefusesAnotherNumberOfClassNames) {
  write_good_files();
  folder_.write("batches.meta.txt", "a\nb\n");
  expect_error(ErrorCode::kProtocol,
               AllOf(HasSubstr("batches.meta.txt"), HasSubstr("2 class names, expected 10")));
}

TEST_F(Cifar10Dataset, SaysHowToGetAMissingDataSet) {
  std::filesystem::remove(folder_.path());
  expect_error(ErrorCode::kNotFound, AllOf(HasSubstr(folder_.path().string()), HasSubstr("./build.sh demo"),
                                           HasSubstr("cifar-10-binary.tar.gz"), HasSubstr("--data_dir")));
}

TEST_F(Cifar10Dataset, NamesTheMissingHalf) {
  expect_error(ErrorCode::kNotFound, HasSubstr("there is no data_batch_*.bin"));
  folder_.write("data_batch_1.bin", striped_images(20, 1));
  expect_error(ErrorCode::kNotFound, HasSubstr("there is no test_batch.bin"));
}

TEST_F(Cifar10Dataset, RefusesATruncatedFile) {
  write_good_files();
  Records records = striped_images(10, 2);
  records.pop_back();
  folder_.write("test_batch.bin", records);
  expect_error(ErrorCode::kProtocol, AllOf(HasSubstr("test_batch.bin: its size is 30729 bytes"),
                                           HasSubstr("expected a multiple of 3073")));
}

TEST_F(Cifar10Dataset, RefusesAnEmptyFile) {
  write_good_files();
  folder_.write("data_batch_1.bin", "");
  expect_error(ErrorCode::kProtocol, HasSubstr("data_batch_1.bin: its size is 0 bytes"));
}

TEST_F(Cifar10Dataset, NamesTheImageWithABadLabel) {
  write_good_files();
  Records records = striped_images(20, 1);
  records[std::size_t{7} * kRecordBytes] = 10;
  folder_.write("data_batch_2.bin", records);
  expect_error(ErrorCode::kProtocol,
               AllOf(HasSubstr("data_batch_2.bin: image 7 has the label 10"), HasSubstr("expected 0 to 9")));
}

TEST_F(Cifar10Dataset, SaysThatAFileCannotBeRead) {
  write_good_files();
  std::filesystem::create_directory(folder_.path() / "data_batch_2.bin");
  expect_error(ErrorCode::kSystem, HasSubstr("data_batch_2.bin"));
}

}  // namespace
}  // namespace cifar10
