#pragma once

#include "core/scratch_folder.h"

/// A folder of a test's own.
using attnscale::ScratchFolder;
