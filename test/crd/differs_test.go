package crd

// differs names the objects of the corpus that Fairlead accepts and Istio's CRDs
// do not, each with the reason.
func differs() map[string]string {
	return map[string]string{}
}
