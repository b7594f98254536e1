// Package fairleadpb is the protobuf form of the resources that are our own:
// those for which Envoy has no type. A foreign client never asks for them.
package fairleadpb

//go:generate protoc --proto_path=../../.. --go_out=../../.. --go_opt=paths=source_relative internal/xds/fairleadpb/name.proto
