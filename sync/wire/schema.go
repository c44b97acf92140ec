package wire

import "embed"

// Schemas holds a JSON Schema (draft 2020-12) for every payload: event.json for
// single events, batch.json for streams, ack.json for acknowledgements; the
// others are the data of one event type each. Base is where their $id points.
//
//go:embed schemas/*.json
var Schemas embed.FS

// Base is the absolute form that relative references in Schemas resolve against.
const Base = "https://hallagent.example/schemas/"

// AsyncAPI describes the topics (AsyncAPI 3.0, YAML); its payloads are Schemas.
//
//go:embed asyncapi.yaml
var AsyncAPI []byte
