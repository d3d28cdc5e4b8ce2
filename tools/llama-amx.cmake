# Read by CMake right after llama.cpp's own project() line (CMAKE_PROJECT_llama.cpp_INCLUDE, set by tools/setup), so that
# the source stays as published. gcc 12 drops the stores that fill AMX's 64-byte tile configuration: the first tile load
# then raises SIGILL, or computes garbage. Without dead store elimination and scalar replacement the stores stay.
# Only the AMX files are compiled so; elsewhere the two passes are wanted. docs/dependencies.md has more.
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    cmake_language(DEFER CALL set_source_files_properties
        "${CMAKE_CURRENT_SOURCE_DIR}/ggml/src/ggml-cpu/amx/amx.cpp"
        "${CMAKE_CURRENT_SOURCE_DIR}/ggml/src/ggml-cpu/amx/mmq.cpp"
        DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}/ggml/src"
        PROPERTIES COMPILE_OPTIONS "-fno-dse;-fno-tree-dse;-fno-tree-sra")
endif()
