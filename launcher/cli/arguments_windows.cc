#include <windows.h>

#include <shellapi.h>

#include <filesystem>

#include "comm/base/text_encoding_windows.h"
#include "launcher/cli/arguments.h"

namespace deepscale {

// argv is in the system's code page, which cannot say every name.
std::vector<std::string> command_arguments(int, char**) {
  int count = 0;
  wchar_t** wide = CommandLineToArgvW(GetCommandLineW(), &count);
  std::vector<std::string> words;
  for (int i = 1; wide != nullptr && i < count; ++i) words.push_back(to_utf8(wide[i]));
  const bool is_report =
      wide != nullptr && count > 0 && std::filesystem::path(wide[0]).stem() == L"ds_report";
  if (is_report) words.insert(words.begin(), "report");
  LocalFree(wide);
  return words;
}

}  // namespace deepscale
