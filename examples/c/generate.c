/* Greedy decoding of a fused graph with ONNX Runtime's C interface: ids in, ids out.
 *
 *     generate MODEL.onnx LAYERS HEADS HEAD_DIM VOCAB POSITIONS COUNT ID...
 *
 * prints COUNT new ids. The cache is this program's memory, bound as past and as present at one
 * address, so that attention appends to it in place and a step copies nothing of the cache's size.
 * Sizes are config.json's n_layer, n_head, n_embd / n_head (filled up to a multiple of 8),
 * vocab_size and n_positions. Made for one row, and for graphs whose cache is in single precision.
 *
 * The header is in ONNX Runtime's release archives, beside the library:
 * https://github.com/microsoft/onnxruntime/releases
 */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "onnxruntime_c_api.h"

#define API_VERSION 20 /* all that is used here is in ONNX Runtime 1.20 */

static const OrtApi *ort;

static void check(OrtStatus *status) {
  if (status == NULL) return;
  fprintf(stderr, "%s\n", ort->GetErrorMessage(status));
  exit(1);
}

typedef struct {
  int64_t layers, heads, head_dim, vocab, positions;
} Shape;

typedef struct {
  OrtSession *session;
  OrtIoBinding *binding;
  OrtMemoryInfo *memory;
  Shape shape;
  float *logits; /* [vocab] */
} Model;

/* A tensor over memory of ours; ONNX Runtime neither copies nor frees it. */
static OrtValue *tensor(const Model *model, void *data, size_t size, const int64_t *dims,
                        size_t rank, ONNXTensorElementDataType type) {
  OrtValue *value = NULL;
  check(ort->CreateTensorWithDataAsOrtValue(model->memory, data, size, dims, rank, type, &value));
  return value;
}

static void bind_input(Model *model, const char *name, void *data, size_t size,
                       const int64_t *dims, size_t rank, ONNXTensorElementDataType type) {
  OrtValue *value = tensor(model, data, size, dims, rank, type);
  check(ort->BindInput(model->binding, name, value));
  ort->ReleaseValue(value); /* the binding holds it */
}

static void bind_output(Model *model, const char *name, void *data, size_t size,
                        const int64_t *dims, size_t rank) {
  OrtValue *value =
      tensor(model, data, size, dims, rank, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT);
  check(ort->BindOutput(model->binding, name, value));
  ort->ReleaseValue(value);
}

/* Past and present of every layer at one address: [1, heads, positions, head_dim]. */
static float *bind_cache(Model *model) {
  const Shape *s = &model->shape;
  const int64_t dims[] = {1, s->heads, s->positions, s->head_dim};
  const size_t count = (size_t)(s->heads * s->positions * s->head_dim);
  float *cache = calloc((size_t)(2 * s->layers) * count, sizeof *cache);
  if (cache == NULL) exit(1);
  for (int64_t n = 0; n < 2 * s->layers; n++) {
    const char *part = n % 2 ? "value" : "key";
    char past[64], present[64];
    snprintf(past, sizeof past, "past_key_values.%lld.%s", (long long)n / 2, part);
    snprintf(present, sizeof present, "present.%lld.%s", (long long)n / 2, part);
    float *data = cache + (size_t)n * count;
    const size_t size = count * sizeof *data;
    bind_input(model, past, data, size, dims, 4, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT);
    bind_output(model, present, data, size, dims, 4);
  }
  return cache;
}

/* Append ids [count] to the cache's `known` tokens; the last one's logits go to model->logits. */
static void append(Model *model, const int64_t *ids, int64_t known, int64_t count) {
  int64_t positions[count], last = count - 1;
  int32_t total = (int32_t)(known + count), seqlens_k = total - 1;
  for (int64_t i = 0; i < count; i++) positions[i] = known + i;
  const int64_t row[] = {1, count}, one[] = {1}, logits[] = {1, model->shape.vocab};
  const ONNXTensorElementDataType i64 = ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64;
  const ONNXTensorElementDataType i32 = ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32;
  const size_t size = (size_t)count * sizeof *ids;
  bind_input(model, "input_ids", (void *)ids, size, row, 2, i64);
  bind_input(model, "position_ids", positions, size, row, 2, i64);
  bind_input(model, "seqlens_k", &seqlens_k, sizeof seqlens_k, one, 1, i32);
  bind_input(model, "total_sequence_length", &total, sizeof total, NULL, 0, i32);
  bind_input(model, "logits_index", &last, sizeof last, one, 1, i64);
  bind_output(model, "logits", model->logits, (size_t)model->shape.vocab * sizeof(float), logits, 2);
  check(ort->RunWithBinding(model->session, NULL, model->binding));
}

static int64_t argmax(const float *logits, int64_t vocab) {
  int64_t best = 0;
  for (int64_t id = 1; id < vocab; id++)
    if (logits[id] > logits[best]) best = id;
  return best;
}

int main(int argc, char **argv) {
  if (argc < 9) {
    fprintf(stderr, "generate MODEL.onnx LAYERS HEADS HEAD_DIM VOCAB POSITIONS COUNT ID...\n");
    return 2;
  }
  ort = OrtGetApiBase()->GetApi(API_VERSION);
  if (ort == NULL) {
    fprintf(stderr, "this ONNX Runtime is older than 1.%d\n", API_VERSION);
    return 1;
  }
  Model model = {.shape = {atoll(argv[2]), atoll(argv[3]), atoll(argv[4]), atoll(argv[5]),
                           atoll(argv[6])}};
  const int64_t made = atoll(argv[7]), prompt = argc - 8;
  if (prompt + made > model.shape.positions) {
    fprintf(stderr, "%lld tokens and %lld more exceed the model's %lld positions\n",
            (long long)prompt, (long long)made, (long long)model.shape.positions);
    return 1;
  }
  OrtEnv *env;
  OrtSessionOptions *options;
  check(ort->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "generate", &env));
  check(ort->CreateSessionOptions(&options));
  check(ort->CreateSession(env, argv[1], options, &model.session));
  check(ort->CreateIoBinding(model.session, &model.binding));
  check(ort->CreateCpuMemoryInfo(OrtDeviceAllocator, OrtMemTypeDefault, &model.memory));
  model.logits = malloc((size_t)model.shape.vocab * sizeof(float));
  int64_t *ids = malloc((size_t)(prompt + made) * sizeof *ids);
  if (model.logits == NULL || ids == NULL) return 1;
  float *cache = bind_cache(&model);
  for (int64_t i = 0; i < prompt; i++) ids[i] = atoll(argv[8 + i]);

  append(&model, ids, 0, prompt); /* long prompts are faster in chunks of 128 */
  for (int64_t length = prompt;; length++) {
    ids[length] = argmax(model.logits, model.shape.vocab);
    printf("%lld\n", (long long)ids[length]);
    if (length + 1 == prompt + made) break;
    append(&model, ids + length, length, 1);
  }

  ort->ReleaseIoBinding(model.binding);
  ort->ReleaseMemoryInfo(model.memory);
  ort->ReleaseSession(model.session);
  ort->ReleaseSessionOptions(options);
  ort->ReleaseEnv(env);
  free(cache);
  free(ids);
  free(model.logits);
  return 0;
}
