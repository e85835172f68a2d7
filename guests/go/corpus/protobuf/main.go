// Protobuf turns a JSON body into the wire form of a message whose descriptor the program makes itself, and back, with google.golang.org/protobuf.
package main

import (
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	_ "google.golang.org/protobuf/types/known/timestamppb" // the descriptor imports it

	"github.com/pauloappbr/gojinn/guests/go/internal/contract"
)

var reading = describe()

// report is the body of the answer.
type report struct {
	Wire  []byte `json:"wire"`
	Bytes int    `json:"bytes"`
	// Same says whether the wire form, read again, is the message it was made from.
	Same bool `json:"same"`
}

func main() { contract.Answer("protobuf", answer) }

// describe is: message Reading { string sensor = 1; repeated double values = 2; google.protobuf.Timestamp at = 3; }
func describe() protoreflect.MessageDescriptor {
	field := func(name string, number int32, label descriptorpb.FieldDescriptorProto_Label, kind descriptorpb.FieldDescriptorProto_Type) *descriptorpb.FieldDescriptorProto {
		return &descriptorpb.FieldDescriptorProto{Name: &name, Number: &number, Label: &label, Type: &kind}
	}
	const one, many = descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL, descriptorpb.FieldDescriptorProto_LABEL_REPEATED
	at := field("at", 3, one, descriptorpb.FieldDescriptorProto_TYPE_MESSAGE)
	at.TypeName = proto.String(".google.protobuf.Timestamp")
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name:       proto.String("reading.proto"),
		Syntax:     proto.String("proto3"),
		Dependency: []string{"google/protobuf/timestamp.proto"},
		MessageType: []*descriptorpb.DescriptorProto{{
			Name: proto.String("Reading"),
			Field: []*descriptorpb.FieldDescriptorProto{
				field("sensor", 1, one, descriptorpb.FieldDescriptorProto_TYPE_STRING),
				field("values", 2, many, descriptorpb.FieldDescriptorProto_TYPE_DOUBLE),
				at,
			},
		}},
	}, protoregistry.GlobalFiles)
	if err != nil {
		panic(err)
	}
	return file.Messages().ByName("Reading")
}

func answer(req *contract.Request) (*contract.Response, error) {
	message := dynamicpb.NewMessage(reading)
	if err := protojson.Unmarshal([]byte(req.Body), message); err != nil {
		return contract.Text(400, "protobuf: not a Reading in JSON\n"), nil
	}
	wire, err := proto.MarshalOptions{Deterministic: true}.Marshal(message)
	if err != nil {
		return nil, err
	}
	again := dynamicpb.NewMessage(reading)
	if err := proto.Unmarshal(wire, again); err != nil {
		return nil, err
	}
	return contract.JSON(200, report{Wire: wire, Bytes: len(wire), Same: proto.Equal(message, again)})
}
