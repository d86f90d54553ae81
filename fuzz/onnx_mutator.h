#pragma once

#include <onnx/onnx_pb.h>

#include <cmath>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

namespace packlight::fuzz {

// Changes one thing of an ONNX message that stays one: bytes changed at random hardly ever parse.
class OnnxMutator {
 public:
  explicit OnnxMutator(uint32_t seed) : random_(seed) {}

  void mutate(onnx::ModelProto& model) {
    collect(model);
    google::protobuf::Message& message = *messages_[below(messages_.size())];
    const auto* type = message.GetDescriptor();
    if (type->field_count() == 0) return;
    const auto* field = type->field(static_cast<int>(below(type->field_count())));
    field->is_repeated() ? mutate_list(message, field) : mutate_field(message, field);
  }

 private:
  using Field = google::protobuf::FieldDescriptor;
  using Message = google::protobuf::Message;

  uint64_t below(uint64_t bound) { return random_() % bound; }

  // Every message of the tree, and every string, which may name something.
  void collect(Message& message) {
    messages_.push_back(&message);
    const auto* reflection = message.GetReflection();
    std::vector<const Field*> fields;
    reflection->ListFields(message, &fields);
    for (const Field* field : fields) {
      const bool is_message = field->cpp_type() == Field::CPPTYPE_MESSAGE,
                 is_string = field->cpp_type() == Field::CPPTYPE_STRING;
      if (!field->is_repeated()) {
        if (is_message) collect(*reflection->MutableMessage(&message, field));
        if (is_string) strings_.push_back(reflection->GetString(message, field));
        continue;
      }
      for (int i = 0; i < reflection->FieldSize(message, field); ++i) {
        if (is_message) collect(*reflection->MutableRepeatedMessage(&message, field, i));
        if (is_string) strings_.push_back(reflection->GetRepeatedString(message, field, i));
      }
    }
  }

  int64_t integer(int64_t old) {
    constexpr int64_t kNotable[] = {0,  1,  -1, 2,         3,         4,         7,
                                    16, 23, 64, INT32_MAX, INT64_MAX, INT64_MIN, int64_t{1} << 40};
    if (below(2) == 0) return kNotable[below(std::size(kNotable))];
    return static_cast<int64_t>(static_cast<uint64_t>(old) + below(9) - 4);
  }

  double number(double old) {
    const double notable[] = {0, 1, -1, 0.5, 1e-30, 1e30, INFINITY, NAN};
    return below(2) == 0 ? notable[below(std::size(notable))] : old * 2 + 1;
  }

  // Mostly one that the file has, so that names meet.
  std::string text(const std::string& old) {
    static const std::string kNotable[] = {"", "x", "ai.onnx", "If", "Loop", "Reshape", "Constant"};
    if (!strings_.empty() && below(4) != 0) return strings_[below(strings_.size())];
    if (below(2) == 0) return kNotable[below(std::size(kNotable))];
    std::string changed = old;
    if (changed.empty() || below(3) == 0) return changed + static_cast<char>(below(256));
    if (below(2) == 0) return changed.substr(0, below(changed.size()));
    changed[below(changed.size())] = static_cast<char>(below(256));
    return changed;
  }

  void mutate_field(Message& message, const Field* field) {
    const auto* r = message.GetReflection();
    if (below(6) == 0) return r->ClearField(&message, field);
    switch (field->cpp_type()) {
      case Field::CPPTYPE_INT32:
        return r->SetInt32(&message, field,
                           static_cast<int32_t>(integer(r->GetInt32(message, field))));
      case Field::CPPTYPE_INT64:
        return r->SetInt64(&message, field, integer(r->GetInt64(message, field)));
      case Field::CPPTYPE_FLOAT:
        return r->SetFloat(&message, field,
                           static_cast<float>(number(r->GetFloat(message, field))));
      case Field::CPPTYPE_DOUBLE:
        return r->SetDouble(&message, field, number(r->GetDouble(message, field)));
      case Field::CPPTYPE_STRING:
        return r->SetString(&message, field, text(r->GetString(message, field)));
      case Field::CPPTYPE_ENUM: {
        const auto* values = field->enum_type();
        return r->SetEnum(&message, field,
                          values->value(static_cast<int>(below(values->value_count()))));
      }
      case Field::CPPTYPE_MESSAGE: {
        const std::string contents = contents_for(field);
        r->MutableMessage(&message, field)->ParsePartialFromString(contents);
        return;
      }
      default:
        return;
    }
  }

  // The bytes of some message of the tree that is of this field's type. They are taken before a
  // message is made for the field, which may end another (of a oneof).
  std::string contents_for(const Field* field) {
    std::vector<const Message*> alike;
    for (const Message* message : messages_) {
      if (message->GetDescriptor() == field->message_type()) alike.push_back(message);
    }
    return alike.empty() ? "" : alike[below(alike.size())]->SerializePartialAsString();
  }

  void mutate_list(Message& message, const Field* field) {
    const auto* r = message.GetReflection();
    const int size = r->FieldSize(message, field);
    const auto choice = below(4);
    if (size > 0 && choice == 0) return r->RemoveLast(&message, field);
    if (size > 1 && choice == 1)
      return r->SwapElements(&message, field, static_cast<int>(below(size)), size - 1);
    if (size > 0 && choice == 2)
      return mutate_element(message, field, static_cast<int>(below(size)));
    add_element(message, field);
  }

  void mutate_element(Message& message, const Field* field, int i) {
    const auto* r = message.GetReflection();
    switch (field->cpp_type()) {
      case Field::CPPTYPE_INT32:
        return r->SetRepeatedInt32(
            &message, field, i,
            static_cast<int32_t>(integer(r->GetRepeatedInt32(message, field, i))));
      case Field::CPPTYPE_INT64:
        return r->SetRepeatedInt64(&message, field, i,
                                   integer(r->GetRepeatedInt64(message, field, i)));
      case Field::CPPTYPE_STRING:
        return r->SetRepeatedString(&message, field, i,
                                    text(r->GetRepeatedString(message, field, i)));
      case Field::CPPTYPE_MESSAGE: {
        const std::string contents = contents_for(field);
        r->MutableRepeatedMessage(&message, field, i)->ParsePartialFromString(contents);
        return;
      }
      default:
        return;
    }
  }

  void add_element(Message& message, const Field* field) {
    const auto* r = message.GetReflection();
    switch (field->cpp_type()) {
      case Field::CPPTYPE_INT32:
        return r->AddInt32(&message, field, static_cast<int32_t>(integer(0)));
      case Field::CPPTYPE_INT64:
        return r->AddInt64(&message, field, integer(0));
      case Field::CPPTYPE_FLOAT:
        return r->AddFloat(&message, field, static_cast<float>(number(0)));
      case Field::CPPTYPE_DOUBLE:
        return r->AddDouble(&message, field, number(0));
      case Field::CPPTYPE_STRING:
        return r->AddString(&message, field, text(""));
      case Field::CPPTYPE_MESSAGE: {
        const std::string contents = contents_for(field);
        r->AddMessage(&message, field)->ParsePartialFromString(contents);
        return;
      }
      default:
        return;
    }
  }

  std::minstd_rand random_;
  std::vector<Message*> messages_;
  std::vector<std::string> strings_;
};

}  // namespace packlight::fuzz
