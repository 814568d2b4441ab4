"""Face detection with MTCNN: the three stages around its networks, and cropping.

`mtcnn`: the detector for users. `cascade`: facenet-pytorch's three stages; `reference`: those of
davidsandberg/facenet. `proposals`: P-Net over the image pyramid. `boxes`: box arithmetic and
non-maximum suppression. `area` and `inter_area`: resampling as torch and OpenCV do it. `images`
and `crops`: images in, face crops out. `selection`: which face to keep. `settings` and `types`:
parameters that the stages share.
"""
