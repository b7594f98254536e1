// Package crd sends what Fairlead calls sound through Istio's own CRDs, with the
// machinery of the API server and without one: what is written for Fairlead must
// work where Istio's definitions are installed.
package crd

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	metavalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/json"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"sigs.k8s.io/yaml"
)

// A server does with an object what the API server does before it stores it.
type server map[string]*definition // by apiVersion and kind

// A definition is one version of one kind.
type definition struct {
	structural *schema.Structural
	schema     validation.SchemaValidator
	rules      *cel.Validator // nil if there are none
}

// newServer installs the CRDs that come with the version of istio.io/api which
// the module uses, as they are.
func newServer(t *testing.T) server {
	t.Helper()
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "istio.io/api").Output()
	if err != nil {
		t.Fatalf("find the module istio.io/api: %v", err)
	}
	data, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "kubernetes", "customresourcedefinitions.gen.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	s := server{}
	for _, document := range documents(t, data) {
		var crd apiextensionsv1.CustomResourceDefinition
		if err := yaml.UnmarshalStrict(document, &crd); err != nil {
			t.Fatal(err)
		}
		for _, version := range crd.Spec.Versions {
			s.install(t, crd.Spec.Group+"/"+version.Name+" "+crd.Spec.Names.Kind, version.Schema.OpenAPIV3Schema)
		}
	}
	return s
}

func (s server) install(t *testing.T, name string, external *apiextensionsv1.JSONSchemaProps) {
	t.Helper()
	var internal apiextensions.JSONSchemaProps
	err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(external, &internal, nil)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	structural, err := schema.NewStructural(&internal)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	validator, _, err := validation.NewSchemaValidator(&internal)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	s[name] = &definition{structural, validator, cel.NewValidator(structural, true, celconfig.PerCallLimit)}
}

// An answer is what the API server makes of an object.
type answer struct {
	faults []string // why it is refused; none if it is stored
	pruned []string // fields that are not stored
}

// create decodes one object and returns the server's answer, and false for an
// object of a kind that it does not have.
func (s server) create(ctx context.Context, o *unstructured.Unstructured) (answer, bool) {
	d := s[o.GetAPIVersion()+" "+o.GetKind()]
	if d == nil {
		return answer{}, false
	}
	if o.GetNamespace() == "" {
		o.SetNamespace("default")
	}
	var a answer
	a.pruned = pruning.PruneWithOptions(o.Object, d.structural, true, schema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true})
	defaulting.PruneNonNullableNullsWithoutDefaults(o.Object, d.structural)
	defaulting.Default(o.Object, d.structural)

	faults := metavalidation.ValidateObjectMetaAccessor(o, true, metavalidation.NameIsDNSSubdomain, nil)
	faults = append(faults, validation.ValidateCustomResource(nil, o.Object, d.schema)...)
	faults = append(faults, listtype.ValidateListSetsAndMaps(nil, d.structural, o.Object)...)
	if d.rules != nil {
		broken, _ := d.rules.Validate(ctx, nil, d.structural, o.Object, nil, celconfig.RuntimeCELCostBudget)
		faults = append(faults, broken...)
	}
	for _, fault := range faults {
		a.faults = append(a.faults, fault.Error())
	}
	slices.Sort(a.faults)
	a.faults = slices.Compact(a.faults)
	return a, true
}

// documents splits a file.
func documents(t *testing.T, data []byte) (all [][]byte) {
	t.Helper()
	for reader := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(data))); ; {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(bytes.TrimSpace(document)) > 0 {
			all = append(all, document)
		}
	}
}

// objects returns the objects of a file as kubectl reads them, those of lists
// one by one.
func objects(data []byte) (all []*unstructured.Unstructured, err error) {
	for reader := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(data))); ; {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		text, err := yaml.YAMLToJSON(document)
		if err != nil {
			return all, err
		}
		var value any
		if err := json.Unmarshal(text, &value); err != nil {
			return all, err
		}
		all = append(all, flatten(value)...)
	}
}

func flatten(value any) []*unstructured.Unstructured {
	object, ok := value.(map[string]any)
	if !ok {
		return nil
	}
	items, ok := object["items"].([]any)
	if kind := fmt.Sprint(object["kind"]); !ok || !strings.HasSuffix(kind, "List") {
		return []*unstructured.Unstructured{{Object: object}}
	}
	var all []*unstructured.Unstructured
	for _, item := range items {
		all = append(all, flatten(item)...)
	}
	return all
}
