package translate

import (
	"slices"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"

	"github.com/fairlead/fairlead/internal/config"
	"github.com/fairlead/fairlead/internal/mesh"
)

// Forms are the fields that messages of many hosts have in common, encoded once.
// What each has of its own is written beside them; the order of fields means
// nothing.
type forms struct {
	mesh     config.Mesh
	route    []byte // of a Route
	action   []byte // of a RouteAction
	eds      []byte // of an EdsClusterConfig
	clusters map[clusterLike][]byte
	scratch  wire // of the message in the making
}

// clusterLike is what the form of a cluster depends on.
type clusterLike struct {
	resolution mesh.Resolution
	protocol   mesh.Protocol
}

func newForms(m config.Mesh) *forms {
	return &forms{
		mesh:     m,
		route:    marshal(routeForm()),
		action:   marshal(actionForm()),
		eds:      marshal(&clusterv3.Cluster_EdsClusterConfig{EdsConfig: ads()}),
		clusters: make(map[clusterLike][]byte),
	}
}

// cluster returns the form of a Cluster.
func (f *forms) cluster(like clusterLike) []byte {
	form := f.clusters[like]
	if form == nil {
		form = marshal(clusterForm(like, f.mesh))
		f.clusters[like] = form
	}
	return form
}

// blank returns an empty message. There is one at a time: it ends with resource.
func (f *forms) blank() *wire {
	f.scratch = f.scratch[:0]
	return &f.scratch
}

// resource makes a Resource of a message that blank returned.
func (f *forms) resource(typeURL, name string, w *wire) *Resource {
	return newResource(typeURL, name, slices.Clone(*w))
}
