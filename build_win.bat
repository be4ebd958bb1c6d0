@echo off
rem Builds DeepScale with Visual Studio 2022 and vcpkg, and runs its demo or its tests. build_win.bat help lists the verbs.
setlocal EnableExtensions EnableDelayedExpansion
cd /d "%~dp0"

set "VERB=%~1"
if "%VERB%"=="" set "VERB=build"
if /i "%VERB%"=="-h" set "VERB=help"
if /i "%VERB%"=="--help" set "VERB=help"
rem What stands behind the verb goes to ctest.
set "REST="
:collect
shift
if not "%~1"=="" (
  set "REST=!REST! %1"
  goto collect
)

for %%V in (build deps demo test clean help) do if /i "%VERB%"=="%%V" goto verb_%%V
>&2 echo build_win.bat: unknown verb '%VERB%'; build_win.bat help lists them
exit /b 2

:verb_help
echo usage: build_win.bat [verb] [arguments]
echo.
echo   (no verb)   build everything, programs in build\bin
echo   deps        only check the tools and let vcpkg build the libraries
echo   demo        build and train the CIFAR10 network with ZeRO on two ranks, on real images
echo   test        build and run every test that can run here; arguments go to ctest: build_win.bat test -L unit
echo   clean       remove the build folders and the prepared data; the download cache stays
echo   help        this text
echo.
echo needs         Visual Studio 2022 with "Desktop development with C++", Python 3 with pip, vcpkg (VCPKG_ROOT, or Visual Studio's)
echo.
echo environment
echo   VCPKG_ROOT            where vcpkg is
echo   DEEPSCALE_CACHE_DIR   where fetched wheels are kept (default: %%LOCALAPPDATA%%\deepscale)
echo   DEEPSCALE_CMAKE_ARGS  more arguments for cmake, for example -DTorch_DIR=C:\libtorch\share\cmake\Torch
echo   DEEPSCALE_PRESET      msvc (default), msvc-cuda, or msvc-core for the part without LibTorch
exit /b 0

:verb_deps
call :find_tools || exit /b 1
call :configure || exit /b 1
exit /b 0

:verb_build
call :find_tools || exit /b 1
call :configure || exit /b 1
call :build || exit /b 1
exit /b 0

:verb_demo
call :find_tools || exit /b 1
call :configure || exit /b 1
cmake --build build --target deepscale cifar10 || exit /b 1
call :prepare_digits || exit /b 1
call :find_libtorch || exit /b 1
echo == Training on 2 ranks: real images, fp16, ZeRO stage 2
set "OMP_NUM_THREADS=1"
build\bin\deepscale.exe launch --num_gpus 2 build\bin\cifar10.exe --deepscale --stage 2 --data_dir data/digits
exit /b %ERRORLEVEL%

:verb_test
call :find_tools || exit /b 1
call :configure || exit /b 1
call :build || exit /b 1
call :prepare_digits || exit /b 1
call :find_libtorch || exit /b 1
echo == Running the tests
ctest --test-dir build --parallel 2 --output-on-failure --no-tests=error!REST!
exit /b %ERRORLEVEL%

:verb_clean
for %%F in (build data) do if exist %%F rmdir /s /q %%F
exit /b 0

rem --- the tools ----------------------------------------------------------------------------------------------------

:find_tools
where cl >nul 2>nul || call :enter_visual_studio || exit /b 1
for %%T in (cmake ninja) do (
  where %%T >nul 2>nul || (
    >&2 echo build_win.bat: %%T was not found. It comes with Visual Studio's component "C++ CMake tools for Windows".
    exit /b 1
  )
)
python -m pip --version >nul 2>nul || (
  >&2 echo build_win.bat: Python 3 with pip was not found. Install it from python.org and let it add itself to PATH.
  exit /b 1
)
if not defined VCPKG_ROOT if defined VCPKG_INSTALLATION_ROOT set "VCPKG_ROOT=%VCPKG_INSTALLATION_ROOT%"
if not exist "%VCPKG_ROOT%\scripts\buildsystems\vcpkg.cmake" (
  >&2 echo build_win.bat: vcpkg was not found in VCPKG_ROOT="%VCPKG_ROOT%". Clone github.com/microsoft/vcpkg, run its bootstrap-vcpkg.bat, and set VCPKG_ROOT.
  exit /b 1
)
exit /b 0

:enter_visual_studio
set "VSWHERE=%ProgramFiles(x86)%\Microsoft Visual Studio\Installer\vswhere.exe"
if not exist "%VSWHERE%" goto no_visual_studio
set "VS_FOLDER="
for /f "usebackq delims=" %%P in (`"%VSWHERE%" -latest -version "[17.0,18.0)" -requires Microsoft.VisualStudio.Component.VC.Tools.x86.x64 -property installationPath`) do set "VS_FOLDER=%%P"
if not defined VS_FOLDER goto no_visual_studio
rem The environment of Visual Studio names its own vcpkg: the caller's comes first.
set "CALLERS_VCPKG=%VCPKG_ROOT%"
call "%VS_FOLDER%\VC\Auxiliary\Build\vcvars64.bat" >nul || exit /b 1
if defined CALLERS_VCPKG set "VCPKG_ROOT=%CALLERS_VCPKG%"
exit /b 0
:no_visual_studio
>&2 echo build_win.bat: Visual Studio 2022 with "Desktop development with C++" was not found.
exit /b 1

rem --- building -----------------------------------------------------------------------------------------------------

:configure
if not defined DEEPSCALE_PRESET set "DEEPSCALE_PRESET=msvc"
echo == Configuring preset %DEEPSCALE_PRESET% in build
cmake --preset %DEEPSCALE_PRESET% %DEEPSCALE_CMAKE_ARGS%
exit /b %ERRORLEVEL%

:build
cmake --build build
exit /b %ERRORLEVEL%

rem Real images in CIFAR-10's format: the handwritten digits inside the scikit-learn wheel, whose data is the same on every system.
:prepare_digits
if exist data\digits\batches.meta.txt exit /b 0
echo == Preparing the handwritten digits in data\digits
for /f "tokens=2,3 delims==" %%A in ('findstr /b /c:"readonly SKLEARN_WHEEL=" build.sh') do set "SKLEARN_WHEEL=%%A==%%B"
for /f "tokens=2 delims==" %%A in ('findstr /b /c:"readonly SKLEARN_SHA256=" build.sh') do set "SKLEARN_SHA256=%%A"
cmake -DREQUIREMENT=%SKLEARN_WHEEL% -DSHA256=%SKLEARN_SHA256% -DINTO=build/wheels -P cmake/PinnedWheel.cmake || exit /b 1
for %%W in (build\wheels\scikit_learn-*.whl) do python examples\cifar10\prepare_digits.py "%%W" data/digits || exit /b 1
exit /b 0

rem Windows finds a program's DLLs through PATH.
:find_libtorch
set "LIBTORCH="
for /f "tokens=2 delims==" %%A in ('findstr /b /c:"DEEPSCALE_LIBTORCH_FOLDER:" build\CMakeCache.txt') do set "LIBTORCH=%%A"
if defined LIBTORCH set "PATH=%LIBTORCH:/=\%\lib;%PATH%"
exit /b 0
