// What people type wrongly, one line each: the answer is one clear error that says what, where and what to
// do, nothing else is printed, and the exit code is not 0.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/launcher/launcher_run.h"
#include "tests/launcher/wrong_command_lines.h"
#include "tests/temporary_folder.h"

namespace deepscale::testing {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

const Mistake kMistakes[] = {
    // What to run.
    {{}, 2, {"no program was given", "Usage: deepscale launch"}},
    {{"launch", "--num_gpus", "2"}, 2, {"no program was given"}},
    {{""}, 2, {"no program was given"}},
    {{"no_such_program"}, 127, {"program not found: no_such_program", "PATH"}},
    {{"./no/such"}, 127, {"program not found: ./no/such", "Check the path"}},
    {{"missing.py"}, 127, {"Python script not found: missing.py"}},
    {{"--no_python", "{script.py}"}, 126, {"is not executable", "leave --no_python out"}},
    {{"/"}, 126, {"/ is a folder"}},
    {{"--module", "--no_python", "x"}, 2, {"--module and --no_python"}},
    {{"--module", "{script.py}"}, 2, {"--module takes the name of a module", "leave --module out"}},
    {{"--venv_script", "/no/activate", "{rank}"}, 2, {"--venv_script /no/activate", "bin/activate"}},
    {{"--venv_script", "{plain}", "{script.py}"}, 2, {"no python beside it", "bin/activate"}},
    // Options.
    {{"--num_gpu", "2", "{rank}"}, 2, {"unknown option --num_gpu", "Did you mean --num_gpus?"}},
    {{"--nmu-gpus=2", "{rank}"}, 2, {"unknown option --nmu-gpus", "Did you mean --num_gpus?"}},
    {{"-z", "{rank}"}, 2, {"unknown option -z", "--help"}},
    {{"-np"}, 2, {"-np needs a value", "--help"}},
    {{"--hostfile"}, 2, {"--hostfile needs a value"}},
    {{"--json=yes", "{rank}"}, 2, {"--json is a switch"}},
    {{"--num_gpus", "two", "{rank}"}, 2, {"--num_gpus", "\"two\" is not a whole number"}},
    {{"--num_gpus", "0", "{rank}"}, 2, {"--num_gpus", "at least 1"}},
    {{"--num_gpus=-1", "{rank}"}, 2, {"--num_gpus", "-1 is not between 1 and"}},
    {{"--num_gpus", "1048576", "{rank}"}, 2, {"1048576 ranks", "limits"}},
    {{"--grace", "soon", "{rank}"}, 2, {"--grace", "\"soon\" is not a duration", "ms, s, m or h"}},
    {{"--timeout", "0", "{rank}"}, 2, {"--timeout", "0 would end the job"}},
    {{"--max_restarts", "many", "{rank}"}, 2, {"--max_restarts", "\"many\" is not a whole number"}},
    {{"--log_level", "loud", "{rank}"}, 2, {"--log_level", "debug, info, warning, error, off"}},
    {{"--rank_filter", "x", "{rank}"}, 2, {"--rank_filter", "0,2-4"}},
    {{"--rank_filter", "5", "--num_gpus", "2", "{rank}"}, 2, {"--rank_filter names rank 5", "0 to 1"}},
    {{"--log_dir", "{plain}/logs", "{rank}"}, 1, {"--log_dir", "cannot be made"}},
    {{"--log_dir", "", "{rank}"}, 2, {"--log_dir", "the value is empty"}},
    {{"report", "--xml"}, 2, {"does not know --xml", "--json"}},
    // Hosts.
    {{"-i", "a", "-e", "a", "{rank}"}, 2, {"--include and --exclude cannot be used together"}},
    {{"-i", "localhost:0", "-np", "2", "{rank}"}, 2, {"--include", "cannot be used with", "--num_gpus"}},
    {{"-i", "", "{rank}"}, 2, {"--include", "the value is empty"}},
    {{"-H", "{hosts}", "-i", "wroker-1", "{rank}"}, 2, {"wroker-1", "Did you mean \"worker-1\"?"}},
    {{"-H", "{hosts}", "-i", "localhost:5", "{rank}"}, 2, {"no slot 5", "0 to 1"}},
    {{"-H", "{hosts}", "-i", "localhost:a", "{rank}"}, 2, {"\"a\" is not a slot number", "NAME[:SLOT"}},
    {{"-H", "{hosts}", "-e", "localhost@worker-1", "{rank}"}, 2, {"--exclude", "leaves no slot"}},
    {{"-H", "{hosts}", "-np", "3", "{rank}"}, 2, {"--num_gpus 3", "2 slots", "localhost", "--oversubscribe"}},
    {{"-H", "{hosts}", "--num_nodes", "3", "{rank}"}, 2, {"--num_nodes 3", "(2)"}},
    {{"-H", "/no/hosts", "{rank}"}, 2, {"/no/hosts", "cannot be read"}},
    {{"-H", "/", "{rank}"}, 2, {"hostfile / is a folder"}},
    {{"-H", "{slot_hosts}", "{rank}"}, 2, {"slot_hosts:3", "worker-1 slot=4", "NAME slots=N"}},
    {{"-H", "{twice_hosts}", "{rank}"}, 2, {"twice_hosts:2", "already", "worker-1 slots=2"}},
    {{"-H", "{empty_hosts}", "{rank}"}, 2, {"empty_hosts", "no host with a slot", "NAME slots=N"}},
    {{"-H", "{binary}", "{rank}"}, 2, {"binary:1", "NAME slots=N"}},
    // Cores, environment, addresses.
    {{"--bind_core_list", "0-", "{rank}"}, 2, {"--bind_core_list", "\"0-\"", "0,2-4"}},
    {{"--bind_core_list", "99999", "{rank}"}, 2, {"core 99999", "taskset"}},
    {{"--bind_core_list", "0", "-np", "2", "{rank}"}, 2, {"2 ranks", "each needs at least one"}},
    {{"--env", "COLOUR", "{rank}"}, 2, {"--env", "\"COLOUR\" is not NAME=VALUE"}},
    {{"--env", "RANK=3", "{rank}"}, 2, {"--env RANK", "launcher itself sets"}},
    {{"--env_file", "/no/file", "{rank}"}, 2, {"--env_file /no/file", "check the path"}},
    {{"--env_file", "{bad_env}", "{rank}"}, 2, {"bad_env:2", "\"B\" is not NAME=VALUE"}},
    {{"--master_port", "99999", "{rank}"}, 2, {"--master_port", "between 0 and 65535"}},
    {{"-q", "--master_addr", "192.0.2.1", "{rank}"}, 2, {"--master_addr 192.0.2.1", "leave it out"}},
    {{"-q", "--master_addr", "no.such.invalid", "{rank}"}, 2, {"--master_addr no.such.invalid"}},
};

// The files that the table names.
class Files {
 public:
  Files() {
    folder_.write("plain", "text\n");
    folder_.write("script.py", "print(1)\n");
    folder_.write("hosts", "localhost slots=2\nworker-1 slots=4\n");
    folder_.write("slot_hosts", "# ours\nlocalhost slots=2\nworker-1 slot=4\n");
    folder_.write("twice_hosts", "worker-1 slots=1\nworker-1 slots=2\n");
    folder_.write("empty_hosts", "# nobody\n");
    folder_.write("binary", std::string_view("\0\x7F\x01\x1B[31m\0", 9));
    folder_.write("bad_env", "A=1\nB\n");
    write_executable("no_interpreter", "#!/no/such/interpreter\n");
    write_executable("no_program", "words\n");
    write_executable("no_program.exe", "words\n");
  }

  std::vector<std::string> with_paths(std::vector<std::string> words) const {
    for (std::string& word : words) {
      const auto end = word.find('}');
      if (word.rfind('{', 0) != 0 || word == "{rank}") continue;
      word = (folder_.path() / word.substr(1, end - 1)).string() + word.substr(end + 1);
    }
    return words;
  }

 private:
  void write_executable(const char* name, const char* text) const {
    std::filesystem::permissions(folder_.write(name, text), std::filesystem::perms::owner_all);
  }

  const TemporaryFolder folder_;
};

std::string joined(const std::vector<std::string>& words) {
  std::string text = "deepscale";
  for (const std::string& word : words) text += " '" + word + "'";
  return text;
}

TEST(WrongCommandLines, GetOneClearAnswer) {
  const Files files;
  std::vector<Mistake> mistakes = mistakes_of_this_system();
  mistakes.insert(mistakes.end(), std::begin(kMistakes), std::end(kMistakes));
  for (const Mistake& mistake : mistakes) {
    SCOPED_TRACE(joined(mistake.words));
    const auto result = run_launcher(files.with_paths(mistake.words));
    EXPECT_EQ(result.exit_code, mistake.exit_code);
    EXPECT_THAT(result.out, IsEmpty());
    EXPECT_THAT(result.error, StartsWith("deepscale: "));
    for (const std::string& text : mistake.answer) EXPECT_THAT(result.error, HasSubstr(text));
    // One message of a sentence or two; a bad line of a file is shown, and a failed start is reported.
    EXPECT_THAT(lines_of(result.error).size(), AnyOf(1U, 3U));
    for (const std::string noise : {"..\n", "terminate called", "what()", "std::", "\x1B", "\u2018"})
      EXPECT_THAT(result.error, Not(HasSubstr(noise)));
  }
}

}  // namespace
}  // namespace deepscale::testing
