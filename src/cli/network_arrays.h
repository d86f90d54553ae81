#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "data/preprocess.h"
#include "io/network.h"
#include "io/network_package.h"

namespace packlight::cli {

// An input that a network takes, as far as it is known.
struct NetworkInput {
  std::string name;
  std::optional<codec::DType> dtype;
  std::optional<std::vector<io::NetworkDim>> shape;  // absent: the rank is not known
};
std::vector<NetworkInput> inputs_of(const io::Network& network);

// What is given with --input: "NAME=FILE", or "FILE" for a network of one input; .npy, or a picture
// (.png, .jpg, .jpeg) that `preprocess` makes a batch of one (absent: its defaults, gray where the
// input has one channel). The records carry the inputs' names. Errors: those of files;
// InvalidArgument for a name that is no input or given twice, an array of another type or shape, or
// of no elements.
std::vector<io::TensorRecord> read_inputs(const std::vector<std::string>& texts,
                                          std::span<const NetworkInput> inputs,
                                          const std::string& network,
                                          const std::optional<data::Preprocess>& preprocess);

// How pictures become the inputs of a package; nothing where it does not say. Errors: Corrupt
// naming the file and the field.
std::optional<data::Preprocess> preprocess_of(const io::NetworkPackage& package);

struct OutputFlags {
  std::string path;  // a .npy file, a folder, or empty: the first numbers are printed
  // > 0: of each output [batch, classes], so many classes of the largest values; of each
  // [batch, time, classes] what a recognizer reads (greedy CTC, class 0 for nothing).
  int64_t labels = 0;
  bool json = false;
};
// The networks' metadata entry that says which characters a recognizer's classes from 1 on are, one
// a line; the class behind them is a space.
inline constexpr const char* kCharactersKey = "character";

// Errors: InvalidArgument when one file is to hold several outputs.
void check_outputs(const OutputFlags& flags, size_t outputs);
// Writes and prints what came out, with the seconds it took. `characters`: the entry
// kCharactersKey, empty where there is none: readings are numbers of classes then. Errors: Io;
// InvalidArgument for labels of outputs none of which is scores of classes.
void report_outputs(const OutputFlags& flags, std::span<const io::TensorRecord> outputs,
                    double seconds, const std::string& characters);

}  // namespace packlight::cli
