/* Scores raw samples with an exported SavedModel through TensorFlow's C API; no Python in the process.

   saved_model_in_c FOLDER INPUT OUTPUT INDEX TYPE RANK DIM... < samples > scores

   INPUT and OUTPUT are names of operations and INDEX the number of the output, as the signature says;
   TYPE is 4 (uint8) or 1 (float32), as in tensorflow/c/tf_datatype.h. Writes float32. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tensorflow/c/c_api.h"

static void check(TF_Status *status) {
  if (TF_GetCode(status) != TF_OK) {
    fprintf(stderr, "%s\n", TF_Message(status));
    exit(1);
  }
}

int main(int argc, char **argv) {
  if (argc < 7 || atoi(argv[6]) > 8 || argc != 7 + atoi(argv[6])) {
    fprintf(stderr, "expected FOLDER INPUT OUTPUT INDEX TYPE RANK DIM..., at most 8 of them\n");
    return 2;
  }
  TF_DataType type = (TF_DataType)atoi(argv[5]);
  int rank = atoi(argv[6]);
  int64_t dims[8];
  size_t bytes = TF_DataTypeSize(type);
  for (int i = 0; i < rank; i++) {
    dims[i] = atoll(argv[7 + i]);
    bytes *= (size_t)dims[i];
  }
  TF_Tensor *input = TF_AllocateTensor(type, dims, rank, bytes);
  if (fread(TF_TensorData(input), 1, bytes, stdin) != bytes) {
    fprintf(stderr, "expected %zu bytes of samples\n", bytes);
    return 2;
  }
  TF_Status *status = TF_NewStatus();
  TF_Graph *graph = TF_NewGraph();
  TF_SessionOptions *options = TF_NewSessionOptions();
  const char *tags[] = {"serve"};
  TF_Session *session =
      TF_LoadSessionFromSavedModel(options, NULL, argv[1], tags, 1, graph, NULL, status);
  check(status);
  TF_Output from = {TF_GraphOperationByName(graph, argv[2]), 0};
  TF_Output to = {TF_GraphOperationByName(graph, argv[3]), atoi(argv[4])};
  if (!from.oper || !to.oper) {
    fprintf(stderr, "the graph has no such operation\n");
    return 1;
  }
  TF_Tensor *output = NULL;
  TF_SessionRun(session, NULL, &from, &input, 1, &to, &output, 1, NULL, 0, NULL, status);
  check(status);
  fwrite(TF_TensorData(output), 1, TF_TensorByteSize(output), stdout);
  return 0;
}
