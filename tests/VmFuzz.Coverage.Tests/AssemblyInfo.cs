// The map is one for the process.
[assembly: CollectionBehavior(DisableTestParallelization = true)]
